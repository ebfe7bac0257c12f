//! An embedded namespace behind calls that take several polls, and fail when told to.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog::backend::{Backend, Begin, Profile};
use oncelog::{
    BeginOptions, Check, CheckOptions, Error, Meta, Namespace, Record, Result, Timestamp, Version,
};

use crate::setup::pause;

/// The fault of a call: its name, how often it fails, and with what.
type Fault = (&'static str, u32, fn() -> Error);

#[derive(Clone)]
pub(crate) struct Bumpy {
    pub(crate) keys: Namespace,
    /// Pauses before and after each call.
    pauses: usize,
    fault: Arc<Mutex<Option<Fault>>>,
    pub(crate) renewals: Arc<AtomicU32>,
    pub(crate) calls: Arc<AtomicUsize>,
}

impl Bumpy {
    pub(crate) fn new(keys: &Namespace, pauses: usize) -> Self {
        let (fault, renewals, calls) = Default::default();
        Self { keys: keys.clone(), pauses, fault, renewals, calls }
    }

    /// From now on so many calls of this name fail, without being made.
    pub(crate) fn fail(&self, call: &'static str, times: u32, error: fn() -> Error) {
        *self.fault.lock().unwrap() = Some((call, times, error));
    }

    async fn before(&self, call: &'static str) -> Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.pause().await;
        let mut fault = self.fault.lock().unwrap();
        match fault.as_mut() {
            Some((name, times, error)) if *name == call && *times > 0 => {
                *times -= 1;
                Err(error())
            }
            _ => Ok(()),
        }
    }

    async fn pause(&self) {
        for _ in 0..self.pauses {
            pause().await;
        }
    }
}

pub(crate) fn unreachable() -> Error {
    Error::Unreachable { backend: "bumpy", reason: "told to".into() }
}

macro_rules! bumpy {
    ($($verb:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Backend for Bumpy {
            fn profile(&self) -> Profile {
                self.keys.profile()
            }

            $(async fn $verb(&self, $($name: $type),*) -> Result<$answer> {
                self.before(stringify!($verb)).await?;
                if stringify!($verb) == "renew" {
                    self.renewals.fetch_add(1, Ordering::SeqCst);
                }
                let answer = Backend::$verb(&self.keys, $($name),*).await;
                self.pause().await;
                answer
            })*
        }
    };
}

bumpy! {
    now() -> Timestamp;
    check_and_set(key: &[u8], outcome: &[u8], options: CheckOptions) -> Check;
    check_and_set_many(items: &[(&[u8], &[u8])], options: CheckOptions) -> Vec<Result<Check>>;
    begin(key: &[u8], options: BeginOptions) -> Begin;
    complete(key: &[u8], version: Version, outcome: &[u8]) -> Version;
    fail(key: &[u8], version: Version, outcome: &[u8]) -> Version;
    release(key: &[u8], version: Version, retry_after: Option<Duration>) -> ();
    renew(key: &[u8], version: Version, length: Duration) -> Timestamp;
    resolve(key: &[u8], outcome: &[u8]) -> bool;
    get(key: &[u8]) -> Option<Record>;
    peek(key: &[u8]) -> Option<Meta>;
    remove(key: &[u8], version: Option<Version>) -> bool;
    wait(key: &[u8], timeout: Duration) -> Option<Meta>;
}
