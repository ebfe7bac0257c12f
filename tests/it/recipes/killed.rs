//! `kill -9` at any moment of the lives of tokens, sequences, jobs, schedules, consumers, outboxes.
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

/// Runs `work` in the child that this test starts, kills it after `lines` lines, and returns them.
fn killed(name: &str, path: &Path, lines: u64) -> Vec<Vec<String>> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("recipes::killed::{name}"), "--nocapture"])
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
fn is_child(work: impl Fn(&Store)) -> bool {
    let Some(path) = std::env::var_os(STORE) else { return false };
    let store = small().open(path).unwrap();
    work(&store);
    true
}

fn did(what: std::fmt::Arguments<'_>) {
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
        let lines =
            killed("a_consumed_token_stays_consumed", directory.path(), 1 + random.below(900));
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
        for words in killed("an_accepted_number_is_accepted_once", directory.path(), count) {
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
        let name = "a_job_goes_on_after_the_last_step_that_was_recorded";
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
        let name = "a_fire_time_that_was_done_is_not_fired_again_and_one_cut_off_is";
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
        let name = "a_consumer_resumes_before_the_first_message_without_a_mark";
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
        let name = "no_completed_work_is_without_its_messages_and_no_message_without_its_work";
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
