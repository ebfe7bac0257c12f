//! Recovery points: a job cut off anywhere goes on where it was, and no step is skipped.

use std::convert::Infallible;

use oncelog::recipes::checkpoint::{Job, Jobs, Resume, StepError};
use oncelog::{Error, Store};

use crate::lease::{LEASE, open};
use crate::recipes::{HOUR, SECOND, at_once, count};
use crate::setup::{clock, directory, fast_directory, maintain, small};

const NAMES: [&str; 4] = ["charge", "book", "mail", "file"];

fn jobs(store: &Store) -> Jobs {
    Jobs::open(store, "orders", LEASE, HOUR).unwrap()
}

fn started(answer: Resume) -> Job {
    match answer {
        Resume::Started(job) => job,
        other => panic!("not started: {other:?}"),
    }
}

/// The process ends here.
#[derive(Debug)]
struct Cut;

/// Takes the steps of the job, each with its effect in `effects`, up to the given cut: twice the
/// number of the step, and one more if its effect still happens.
fn work(job: &mut Job, cut: usize, effects: &mut Vec<usize>) -> Result<(), StepError<Cut>> {
    for (number, name) in NAMES.iter().enumerate() {
        job.step(name, |step| {
            assert_eq!(step.number(), number as u64 + 1);
            let before = (0..number).map(|done| done.to_string()).collect::<String>();
            assert_eq!(step.state(), before.as_bytes(), "the state of the step before");
            if cut == 2 * number {
                return Err(Cut);
            }
            effects.push(number);
            if cut == 2 * number + 1 { Err(Cut) } else { Ok(format!("{before}{number}")) }
        })?;
    }
    Ok(())
}

#[test]
fn a_job_cut_off_anywhere_once_or_twice_goes_on_at_the_step_that_was_not_recorded() {
    let never = 2 * NAMES.len();
    for first in 0..never {
        for second in 0..=never {
            let (directory, clock) = (fast_directory(), clock());
            let mut effects = Vec::new();
            for cut in [first, second, never] {
                let store = open(directory.path(), &clock);
                let mut job = started(jobs(&store).resume("42").unwrap());
                let cut_off = work(&mut job, cut, &mut effects).is_err();
                drop((job, store));
                clock.advance(LEASE);
                if !cut_off {
                    break;
                }
            }
            // In order, none left out, and repeated only where a cut came after the effect.
            assert!(effects.is_sorted() && effects.len() <= NAMES.len() + 2);
            for number in 0..NAMES.len() {
                let times = count(&effects, |effect| *effect == number);
                let cuts = count(&[first, second], |cut| *cut == 2 * number + 1);
                assert!(times >= 1 && times <= 1 + cuts, "step {number} of {effects:?}");
            }
        }
    }
}

#[test]
fn a_holder_that_was_replaced_takes_no_other_step_for_good() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let step = |job: &mut Job, name| job.step(name, |_| Ok::<_, Infallible>(name));
    let mut late = started(jobs(&store).resume("42").unwrap());
    assert!(step(&mut late, "charge").unwrap());
    assert!(matches!(jobs(&store).resume("42").unwrap(), Resume::InProgress(_)));
    clock.advance(LEASE);
    let mut current = started(jobs(&store).resume("42").unwrap());
    assert!(!step(&mut current, "charge").unwrap() && current.steps_done() == 1);
    let lost = step(&mut late, "book");
    assert!(matches!(lost, Err(StepError::Store(Error::LeaseLost))), "{lost:?}");
    assert!(matches!(late.complete("late"), Err(Error::LeaseLost)));
    assert!(step(&mut current, "book").unwrap() && current.state() == b"book");
    current.complete("done").unwrap();
    assert!(matches!(jobs(&store).resume("42").unwrap(), Resume::Done(end) if end == b"done"));
}

#[test]
fn a_program_whose_steps_have_changed_skips_none_and_says_so() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let step = |job: &mut Job, name| job.step(name, |_| Ok::<_, Infallible>(""));
    let mut job = started(jobs(&store).resume("42").unwrap());
    for name in ["charge", "book"] {
        assert!(step(&mut job, name).unwrap());
    }
    job.release(Some(SECOND)).unwrap();
    clock.advance(SECOND);
    for other in [["charge", "check"], ["book", "charge"], ["check", "book"]] {
        let mut job = started(jobs(&store).resume("42").unwrap());
        assert!(!step(&mut job, other[0]).unwrap());
        let changed = step(&mut job, other[1]);
        assert!(matches!(changed, Err(StepError::Changed { steps: 2 })), "{changed:?}");
        job.release(None).unwrap();
    }
    let fewer = started(jobs(&store).resume("42").unwrap());
    assert!(matches!(fewer.complete("early"), Err(Error::InvalidConfig { .. })));
    clock.advance(LEASE);
    let mut job = started(jobs(&store).resume("42").unwrap());
    assert!(!step(&mut job, "charge").unwrap() && !step(&mut job, "book").unwrap());
    assert!(step(&mut job, "mail").unwrap());
    job.complete("done").unwrap();
}

#[test]
fn a_step_that_fails_can_be_taken_again_and_a_forgotten_job_begins_at_the_start() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut job = started(jobs(&store).resume("42").unwrap());
    job.step("charge", |_| Ok::<_, Cut>("receipt")).unwrap();
    assert!(matches!(job.step("book", |_| Err::<&str, _>(Cut)), Err(StepError::Work(Cut))));
    assert_eq!((job.steps_done(), job.state()), (1, &b"receipt"[..]));
    assert!(job.step("book", |_| Ok::<_, Cut>("seat 7")).unwrap());
    job.complete("done").unwrap();
    clock.advance(HOUR);
    maintain(&store);
    let job = started(jobs(&store).resume("42").unwrap());
    assert_eq!((job.steps_done(), job.state(), job.lease().attempt()), (0, &b""[..], 1));
}

#[test]
fn a_long_step_that_renews_its_lease_keeps_its_job_and_its_point() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut job = started(jobs(&store).resume("42").unwrap());
    job.step("charge", |_| Ok::<_, Error>("receipt")).unwrap();
    let long = job.step("book", |step| {
        for _ in 0..5 {
            clock.advance(LEASE - SECOND);
            step.renew()?;
            assert!(matches!(jobs(&store).resume("42")?, Resume::InProgress(_)));
        }
        clock.advance(LEASE);
        let next = started(jobs(&store).resume("42")?);
        assert_eq!((next.steps_done(), next.state()), (1, &b"receipt"[..]));
        step.renew().map(|()| "seat 7")
    });
    assert!(matches!(long, Err(StepError::Work(Error::LeaseLost))), "{long:?}");
}

#[test]
fn of_callers_at_once_one_has_the_job() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for round in 0..200_u32 {
        let answers = at_once(|_| jobs(&store).resume(round.to_le_bytes()).unwrap());
        assert_eq!(count(&answers, |answer| matches!(answer, Resume::Started(_))), 1);
    }
}
