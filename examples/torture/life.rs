//! A life of a store: calls drawn at random, each told before it is made and after it returned.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use oncelog::Store;

use crate::Failure;
use crate::history::{Answer, Line, What, ask};
use crate::oracle::Oracle;
use crate::random::{Random, salt};

/// Whoever is told what happens.
pub(crate) trait Witness {
    fn hear(&mut self, line: &Line) -> Result<(), Failure>;
}

impl Witness for Oracle {
    fn hear(&mut self, line: &Line) -> Result<(), Failure> {
        Ok(self.feed(line)?)
    }
}

/// Another process, at the end of the pipe that standard output is.
///
/// Lines are written by `writev`, which the engine never uses: faults of its writes are not meant
/// for them.
pub(crate) struct Pipe(Mutex<File>);

impl Pipe {
    pub(crate) fn new() -> Result<Self, Failure> {
        let output = std::io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self(Mutex::new(File::from(output))))
    }
}

impl Witness for &Pipe {
    fn hear(&mut self, line: &Line) -> Result<(), Failure> {
        let text = format!("{line}\n");
        let mut file = self.0.lock().map_err(|_| "a thread panicked")?;
        // One short line is written whole or not at all.
        let written = file.write_vectored(&[IoSlice::new(text.as_bytes())])?;
        if written == text.len() { Ok(()) } else { Err("the pipe took half a line".into()) }
    }
}

/// What a player plays with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play {
    /// Keys of its own.
    pub(crate) keys: u64,
    /// One outcome in so many is long.
    pub(crate) bulk: u64,
    /// Lifetimes of some records, in milliseconds, up to this; 0 for none of their own.
    pub(crate) ttl: u64,
}

/// Asks for one thing and tells of it.
pub(crate) fn tell(
    store: &Store,
    key: &str,
    what: What,
    witness: &mut dyn Witness,
) -> Result<Answer, Failure> {
    let at = store.now().as_millis();
    witness.hear(&Line::Call { key: key.to_owned(), at, what })?;
    let answer = ask(store, key, what);
    let at = store.now().as_millis();
    witness.hear(&Line::Reply { key: key.to_owned(), at, answer: answer.clone() })?;
    Ok(answer)
}

/// One thread's part of a life.
pub(crate) struct Player<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: String,
    pub(crate) random: Random,
    pub(crate) play: Play,
}

impl Player<'_> {
    /// Makes one call about one of its keys.
    pub(crate) fn step(&mut self, witness: &mut dyn Witness) -> Result<Answer, Failure> {
        let key = format!("{}.{}", self.name, self.random.below(self.play.keys));
        let what = match self.random.below(16) {
            0..=6 => What::Check { salt: self.salt(), ttl: self.ttl() },
            7..=8 => What::Remove,
            9..=11 => What::Begin,
            12..=13 => self.ending(&key),
            _ => What::Look,
        };
        tell(self.store, &key, what, witness)
    }

    /// A check that several threads make at about the same time.
    pub(crate) fn race(
        &mut self,
        count: &AtomicU64,
        witness: &mut dyn Witness,
    ) -> Result<(), Failure> {
        let number = count.fetch_add(1, Ordering::Relaxed) / 3;
        let what = What::Race { salt: salt(&mut self.random, 500) };
        tell(self.store, &format!("race.{}.{number}", self.play.keys), what, witness).map(|_| ())
    }

    fn salt(&mut self) -> u64 {
        salt(&mut self.random, self.play.bulk)
    }

    fn ttl(&mut self) -> u64 {
        if self.play.ttl > 0 && self.random.one_in(4) {
            1 + self.random.below(self.play.ttl)
        } else {
            0
        }
    }

    /// An end of the key's lease, if there is one.
    fn ending(&mut self, key: &str) -> What {
        let meta = self.store.peek(key).ok().flatten();
        let Some(meta) = meta.filter(|meta| !meta.status.is_final()) else { return What::Look };
        let token = meta.version.as_u64();
        if self.random.one_in(4) {
            What::Release { token }
        } else {
            What::Complete { token, salt: self.salt() }
        }
    }
}

/// A sync, told of.
pub(crate) fn sync(store: &Store, witness: &mut dyn Witness) -> Result<(), Failure> {
    witness.hear(&Line::SyncBegins)?;
    if store.sync().is_ok() {
        witness.hear(&Line::SyncReturned)?;
    }
    Ok(())
}

/// Looks at every key that the oracle knows of.
pub(crate) fn look_at_all(store: &Store, oracle: &mut Oracle) -> Result<(), Failure> {
    for key in oracle.keys() {
        tell(store, &key, What::Look, oracle)?;
    }
    for key in oracle.races() {
        let answer = ask(store, &key, What::Look);
        let at = store.now().as_millis();
        oracle.hear(&Line::Reply { key, at, answer })?;
    }
    Ok(())
}
