//! `kill -9` at any moment of a recipe's life.
//!
//! Each test runs itself again as a child, which works until it is killed and writes a line after
//! each call that returned. The parent kills it after some lines, opens the store, checks them
//! against it, and goes on with the same store.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use oncelog::recipes::checkpoint::{Jobs, Resume};
use oncelog::recipes::consumer::{Group, Message, Turn};
use oncelog::recipes::outbox::Outbox;
use oncelog::recipes::schedule::{Fire, Schedule};
use oncelog::recipes::sequence::{Accept, Order, Sequences};
use oncelog::recipes::token::{Consume, Tokens};
use oncelog::{Begin, Store, Timestamp};

use crate::recipes::{HOUR, SECOND};
use crate::setup::{Random, directory, small};

/// Names the store's directory; set for the child alone.
const STORE: &str = "ONCELOG_TEST_RECIPES";

/// Runs the test of this name again as a child, kills it after `lines` lines, and returns them.
pub(crate) fn killed(name: &str, path: &Path, lines: u64) -> Vec<Vec<String>> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("recipes::{name}"), "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(words) = line.strip_prefix("did ") else { continue };
        seen.push(words.split(' ').map(str::to_owned).collect());
        if seen.len() as u64 == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen.len() as u64 >= lines, "the child ended by itself");
    seen
}

/// True in the child, where the work goes on until the parent kills it.
pub(crate) fn is_child(work: impl Fn(&Store)) -> bool {
    is_child_at(|path| work(&small().open(path).unwrap()))
}

fn is_child_at(work: impl Fn(&Path)) -> bool {
    let Some(path) = std::env::var_os(STORE) else { return false };
    work(Path::new(&path));
    true
}

pub(crate) fn did(what: std::fmt::Arguments<'_>) {
    // The first line break ends whatever the test's own runner has begun to print.
    let mut out = std::io::stdout();
    writeln!(out, "\ndid {what}").unwrap();
}

#[test]
fn a_consumed_token_stays_consumed() {
    let is_child = is_child(|store| {
        let tokens = Tokens::open(store, "form").unwrap();
        for number in 0.. {
            let token = tokens.issue("", HOUR).unwrap();
            did(format_args!("issue {token}"));
            if number % 3 != 0 {
                assert!(matches!(tokens.consume(&token).unwrap(), Consume::Now(_)));
                did(format_args!("consume {token}"));
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(5));
    for _ in 0..12 {
        let lines = killed(
            "killed::a_consumed_token_stays_consumed",
            directory.path(),
            1 + random.below(900),
        );
        let mut tokens = BTreeMap::<&str, &str>::new();
        tokens.extend(lines.iter().map(|words| (&*words[1], &*words[0])));
        let store = small().open(directory.path()).unwrap();
        let form = Tokens::open(&store, "form").unwrap();
        for (token, step) in &tokens {
            match form.consume(token).unwrap() {
                Consume::Already { .. } => {
                    let last = &lines[lines.len() - 1][1];
                    assert!(*step == "consume" || token == last, "{token} was not consumed");
                }
                Consume::Now(_) => assert_eq!(*step, "issue", "{token} consumed twice"),
                Consume::Unknown => panic!("{token} is forgotten"),
            }
        }
    }
}

#[test]
fn an_accepted_number_is_accepted_once() {
    let is_child = is_child(|store| {
        let window = Sequences::open(store, "s", Order::Window(256)).unwrap();
        let high = window.progress("p").unwrap().map_or(0, |progress| progress.high);
        let mut random = Random::new(high);
        for step in high.. {
            let numbers = [step + random.below(40), step.saturating_sub(random.below(40))];
            let answers = window.accept_many("p", 1, &numbers).unwrap();
            for (number, answer) in numbers.iter().zip(answers) {
                if let Accept::New { .. } = answer {
                    did(format_args!("accept {number}"));
                }
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(6));
    let mut accepted = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let count = 1 + random.below(1_500);
        for words in killed("killed::an_accepted_number_is_accepted_once", directory.path(), count)
        {
            let number: u64 = words[1].parse().unwrap();
            assert!(accepted.insert(number), "{number} was accepted twice");
        }
        let store = small().open(directory.path()).unwrap();
        let window = Sequences::open(&store, "s", Order::Window(256)).unwrap();
        for number in accepted.iter().rev().take(100) {
            let answer = window.check("p", 1, *number).unwrap();
            assert!(matches!(answer, Accept::Duplicate | Accept::TooOld { .. }), "{answer:?}");
        }
    }
}

const STEPS: u64 = 6;

#[test]
fn a_job_goes_on_after_the_last_step_that_was_recorded() {
    let is_child = is_child(|store| {
        // A lease so short that the next process need not wait for it: 1 ms.
        let jobs = Jobs::open(store, "j", SECOND / 1_000, HOUR).unwrap();
        for number in 0.. {
            let name = format!("job {number}");
            let mut job = loop {
                match jobs.resume(&name).unwrap() {
                    Resume::Started(job) => break Some(job),
                    Resume::Done(_) => break None,
                    Resume::InProgress(other) => drop(other.wait(SECOND).unwrap()),
                }
            };
            for step in 1..=STEPS {
                let Some(job) = &mut job else { break };
                let taken = job.step(&step.to_string(), |given| {
                    let before: u64 = String::from_utf8_lossy(given.state()).parse().unwrap_or(0);
                    assert_eq!((given.number(), before), (step, step - 1));
                    did(format_args!("effect {number} {step}"));
                    Ok::<_, Infallible>(step.to_string())
                });
                if taken.unwrap() {
                    did(format_args!("record {number} {step}"));
                }
            }
            if let Some(job) = job {
                job.complete("").unwrap();
                did(format_args!("complete {number} 0"));
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(7));
    let (mut effects, mut recorded) = (BTreeMap::<u64, Vec<u64>>::new(), BTreeMap::new());
    for _ in 0..12 {
        let name = "killed::a_job_goes_on_after_the_last_step_that_was_recorded";
        for words in killed(name, directory.path(), 1 + random.below(300)) {
            let [job, step] = [1, 2].map(|at| words[at].parse::<u64>().unwrap());
            match &*words[0] {
                "effect" => {
                    assert!(recorded.get(&job).is_none_or(|done| step > *done), "repeated");
                    effects.entry(job).or_default().push(step);
                }
                "record" => {
                    recorded.insert(job, step);
                }
                _ => {
                    let all = effects.get_mut(&job).unwrap();
                    assert!(all.is_sorted());
                    all.dedup();
                    assert!(all.iter().copied().eq(1..=STEPS), "a step was left out: {all:?}");
                    recorded.insert(job, STEPS);
                }
            }
        }
    }
}

#[test]
fn a_fire_time_that_was_done_is_not_fired_again_and_one_cut_off_is() {
    let at = |number: u64| Timestamp::from_millis(1_700_000_000_000 + number);
    let schedule = |store: &Store| {
        // A retention longer than these times are ago.
        Schedule::open(store, "s", SECOND / 1_000, 1_000_000 * HOUR).unwrap()
    };
    let is_child = is_child(|store| {
        for number in 0.. {
            match schedule(store).fire("job", at(number)).unwrap() {
                Fire::Started(mut lease) => {
                    did(format_args!("fire {number}"));
                    if lease.complete("").is_ok() {
                        did(format_args!("done {number}"));
                    }
                }
                Fire::Done(_) => {}
                // The run of a process that was killed just now.
                Fire::InProgress(other) => {
                    let mut lease = other.wait(SECOND).unwrap().started().unwrap();
                    did(format_args!("fire {number}"));
                    lease.complete("").unwrap();
                    did(format_args!("done {number}"));
                }
                other => panic!("{other:?}"),
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(8));
    let mut done = std::collections::BTreeSet::new();
    let mut last = 0;
    for _ in 0..12 {
        let name = "killed::a_fire_time_that_was_done_is_not_fired_again_and_one_cut_off_is";
        for words in killed(name, directory.path(), 1 + random.below(600)) {
            let number: u64 = words[1].parse().unwrap();
            assert!(!done.contains(&number), "{number} was fired again");
            if words[0] == "done" {
                done.insert(number);
            }
            last = last.max(number);
        }
    }
    // None was missed: all that come before the last one were done, at least before the kill.
    let store = small().open(directory.path()).unwrap();
    for number in 0..last {
        assert!(matches!(schedule(&store).fire("job", at(number)).unwrap(), Fire::Done(_)));
    }
}

/// Adds the ballots that are recorded without having been told of, as those of the batch under way
/// may be; how many they were.
#[cfg(feature = "ballot")]
fn learn(
    election: &oncelog::recipes::ballot::Election,
    told: &mut BTreeMap<String, String>,
    total: u64,
) -> u64 {
    let missing = total - told.len() as u64;
    for voter in (0..1_000_000_u64).map(|number| number.to_string()) {
        if told.len() as u64 == total {
            break;
        }
        let Some(ballot) = election.find(&voter).unwrap() else { continue };
        let choice = String::from_utf8(ballot.choice().to_vec()).unwrap();
        told.entry(voter).or_insert(choice);
    }
    assert_eq!(told.len() as u64, total);
    missing
}

#[cfg(feature = "ballot")]
#[test]
fn a_ballot_that_was_told_of_is_counted_once_and_stays_as_it_was() {
    use oncelog::recipes::ballot::{Ballots, Casts, Export, verify_root};
    let open = |path: &Path| Ballots::open_with(small(), path).unwrap();
    let is_child = is_child_at(|path| {
        let ballots = open(path);
        let election = ballots.election("mayor").unwrap();
        let first = election.tally().unwrap().total();
        let (mut casts, mut random) = (Casts::new(), Random::new(first));
        for step in 1.. {
            // Some of them have voted, in this process or in one before.
            let items: Vec<_> = (0..20)
                .map(|_| random.below(first + 60 * step))
                .map(|voter| (voter.to_string(), format!("{first} {step}")))
                .collect();
            election.cast_many(&items, &mut casts).unwrap();
            for ((voter, choice), cast) in items.iter().zip(casts.iter()) {
                if cast.is_counted() {
                    did(format_args!("cast {voter} {choice}"));
                }
            }
            if step % 7 == 0 {
                did(format_args!("export {}", ballots.export().unwrap().root()));
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(9));
    let (mut told, mut roots) = (BTreeMap::<String, String>::new(), Vec::new());
    let mut earlier: Option<Export> = None;
    for _ in 0..12 {
        let name = "killed::a_ballot_that_was_told_of_is_counted_once_and_stays_as_it_was";
        for words in killed(name, directory.path(), 1 + random.below(700)) {
            if words[0] == "export" {
                roots.push(words[1].clone());
            } else {
                let choice = words[2..].join(" ");
                assert!(told.insert(words[1].clone(), choice).is_none(), "{words:?}: twice");
            }
        }
        let ballots = open(directory.path());
        let election = ballots.election("mayor").unwrap();
        for (voter, choice) in &told {
            assert_eq!(election.find(voter).unwrap().unwrap().choice(), choice.as_bytes());
        }
        let tally = election.tally().unwrap();
        assert_eq!(tally, election.recount().unwrap());
        let untold = learn(&election, &mut told, tally.total());
        assert!(untold <= 20, "{untold} ballots that nobody was told of");
        let export = ballots.export().unwrap();
        assert!(earlier.as_ref().is_none_or(|earlier| export.extends(earlier)));
        let has = |root: &String| export.has_root(root.parse().unwrap());
        assert!(roots.iter().all(has), "an exported root is gone");
        assert!(verify_root(directory.path(), &export).unwrap().is_unchanged());
        earlier = Some(export);
    }
}

#[test]
fn a_consumer_resumes_before_the_first_message_without_a_mark() {
    let orders = |store: &Store| {
        // A lease so short that the next process need not wait for it: 1 ms.
        Group::open(store, "g", SECOND / 1_000, HOUR).unwrap().partition("orders", 0)
    };
    let is_child = is_child(|store| {
        let orders = orders(store);
        let mut random = Random::new(orders.position().unwrap().unwrap_or(0));
        loop {
            let from = orders.position().unwrap().unwrap_or(0);
            let offsets = from..from + 1 + random.below(30);
            let mut batch = orders.claim(from, offsets.map(Message::at)).unwrap();
            batch.wait(SECOND).unwrap();
            for index in 0..batch.len() {
                if let Turn::Handle(_) = batch.turn(index) {
                    did(format_args!("effect {}", from + index as u64));
                    batch.handled(index, "").unwrap();
                }
            }
            let committed = batch.commit().unwrap();
            // A lease of a millisecond may run out: then another claim is needed.
            did(format_args!("commit {}", committed.next.unwrap()));
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(9));
    let (mut effects, mut next) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..12 {
        let name = "killed::a_consumer_resumes_before_the_first_message_without_a_mark";
        for words in killed(name, directory.path(), 1 + random.below(600)) {
            let number: u64 = words[1].parse().unwrap();
            if words[0] == "effect" {
                assert!(number >= next, "{number} was committed and is handled again");
                effects.insert(number);
            } else {
                next = number;
            }
        }
        let store = small().open(directory.path()).unwrap();
        let position = orders(&store).position().unwrap().unwrap_or(0);
        assert!(position >= next, "{position} after {next}");
        assert!((0..position).all(|offset| effects.contains(&offset)), "{position} is ahead");
        next = position;
    }
    assert!(next > 100, "{next}");
}

#[test]
fn no_completed_work_is_without_its_messages_and_no_message_without_its_work() {
    let is_child = is_child(|store| {
        let outbox = Outbox::open(store, "o", HOUR).unwrap();
        for number in 0.. {
            // One that an earlier process has completed, or had begun when it was killed.
            let Begin::Started(mut lease) = store.begin(format!("job {number}")).unwrap() else {
                continue;
            };
            let messages = [format!("{number} a"), format!("{number} b")];
            outbox.complete(&mut lease, "", &messages).unwrap();
            did(format_args!("complete {number}"));
            for message in outbox.pending().unwrap().take(3) {
                let message = message.unwrap();
                did(format_args!("send {}", String::from_utf8_lossy(message.payload())));
                assert!(outbox.dispatched(&message).unwrap());
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(10));
    let mut sent = std::collections::BTreeSet::new();
    let mut last = 0;
    for _ in 0..12 {
        let name =
            "killed::no_completed_work_is_without_its_messages_and_no_message_without_its_work";
        let lines = killed(name, directory.path(), 1 + random.below(600));
        let store = small().open(directory.path()).unwrap();
        for words in &lines {
            let number: u64 = words[1].parse().unwrap();
            assert!(store.contains(format!("job {number}")).unwrap(), "{words:?}");
            last = last.max(number);
            if words[0] == "send" {
                sent.insert(words[1..].join(" "));
            }
        }
        let outbox = Outbox::open(&store, "o", HOUR).unwrap();
        let pending = outbox
            .pending()
            .unwrap()
            .map(|message| String::from_utf8(message.unwrap().payload().to_vec()).unwrap());
        let pending: std::collections::BTreeSet<String> = pending.collect();
        // One more may have been completed, and not told.
        for number in 0..=last + 1 {
            let is_done = store.contains(format!("job {number}")).unwrap();
            for message in [format!("{number} a"), format!("{number} b")] {
                let known = sent.contains(&message) || pending.contains(&message);
                assert_eq!(known, is_done, "{message}");
            }
        }
    }
}
