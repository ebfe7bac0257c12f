//! Shows that the checker can fail: histories with a fault each, of which it has to flag every one.
//!
//! Lines are those of the pipe; `! kill` and `! cut` are the end of the process and of the power.
//! Beside the faulty histories stand sound ones, which are not to be flagged.

use oncelog::Durability;

use crate::Failure;
use crate::history::Line;
use crate::oracle::{Oracle, Violation};

const PROCESS: Durability = Durability::Process;
const SYNCED: Durability = Durability::Synced;

/// A history, the level of its store, and the rule that it breaks, if it breaks one.
type Story = (&'static str, Durability, &'static [&'static str], Option<&'static str>);

/// An ending of what has begun with a record of `a` with the outcome 8.
const NEW: &str = "> a 100 check 8 0";

const STORIES: &[Story] = &[
    (
        "a lost acknowledgement",
        PROCESS,
        &[NEW, "< a 101 new", "! kill", "> a 102 look", "< a 102 nothing"],
        Some("answer"),
    ),
    ("a call under way, kept", PROCESS, &[NEW, "! kill", "> a 102 look", "< a 102 done 8"], None),
    ("a call under way, gone", PROCESS, &[NEW, "! kill", "> a 102 look", "< a 102 nothing"], None),
    (
        "a call under way, half done",
        PROCESS,
        &[NEW, "! kill", "> a 102 look", "< a 102 done garbled"],
        Some("answer"),
    ),
    (
        "a state that changes between two looks",
        PROCESS,
        &[NEW, "! kill", "> a 102 look", "< a 102 nothing", "> a 103 look", "< a 103 done 8"],
        Some("answer"),
    ),
    (
        "a second new",
        PROCESS,
        &[NEW, "< a 101 new", "> a 102 check 16 0", "< a 103 new"],
        Some("answer"),
    ),
    (
        "a duplicate",
        PROCESS,
        &[NEW, "< a 101 new", "> a 102 check 16 0", "< a 103 duplicate 8"],
        None,
    ),
    (
        "a duplicate of the wrong outcome",
        PROCESS,
        &[NEW, "< a 101 new", "> a 102 check 16 0", "< a 103 duplicate 16"],
        Some("answer"),
    ),
    (
        "a resurrected key",
        PROCESS,
        &[
            NEW,
            "< a 101 new",
            "> a 102 remove",
            "< a 103 removed true",
            "> a 104 check 16 0",
            "< a 105 duplicate 8",
        ],
        Some("answer"),
    ),
    (
        "a key resurrected by a kill",
        PROCESS,
        &[
            NEW,
            "< a 101 new",
            "> a 102 remove",
            "< a 103 removed true",
            "! kill",
            "> a 104 look",
            "< a 105 done 8",
        ],
        Some("answer"),
    ),
    (
        "a removal under way",
        PROCESS,
        &[NEW, "< a 101 new", "> a 102 remove", "! kill", "> a 104 look", "< a 105 nothing"],
        None,
    ),
    (
        "a record lost with the power",
        PROCESS,
        &[NEW, "< a 101 new", "! cut", "> a 102 look", "< a 102 nothing"],
        None,
    ),
    (
        "a synced record lost with the power",
        SYNCED,
        &[NEW, "< a 101 new", "! cut", "> a 102 look", "< a 102 nothing"],
        Some("answer"),
    ),
    (
        "a record lost after a sync",
        PROCESS,
        &[NEW, "< a 101 new", "= sync", "= synced", "! cut", "> a 102 look", "< a 102 nothing"],
        Some("answer"),
    ),
    (
        "a record made during a sync",
        PROCESS,
        &["= sync", NEW, "< a 101 new", "= synced", "! cut", "> a 102 look", "< a 102 nothing"],
        None,
    ),
    (
        "a record lost after two rounds",
        PROCESS,
        &[
            NEW,
            "< a 101 new",
            "= counting",
            "= rounds 3",
            "= rounds 5",
            "! cut",
            "> a 102 look",
            "< a 102 nothing",
        ],
        Some("answer"),
    ),
    (
        "a record lost after one round",
        PROCESS,
        &[
            NEW,
            "< a 101 new",
            "= counting",
            "= rounds 3",
            "= rounds 4",
            "! cut",
            "> a 102 look",
            "< a 102 nothing",
        ],
        None,
    ),
    (
        "a record made while rounds were counted",
        PROCESS,
        &[
            "= counting",
            NEW,
            "< a 101 new",
            "= rounds 3",
            "= counting",
            "= rounds 5",
            "! cut",
            "> a 102 look",
            "< a 102 nothing",
        ],
        None,
    ),
    (
        "a record of before that comes back",
        PROCESS,
        &[
            NEW,
            "< a 101 new",
            "> a 102 remove",
            "< a 103 removed true",
            "! cut",
            "> a 104 look",
            "< a 105 done 8",
        ],
        None,
    ),
    (
        "a synced removal that is undone",
        PROCESS,
        &[
            NEW,
            "< a 101 new",
            "> a 102 remove",
            "< a 103 removed true",
            "= sync",
            "= synced",
            "! cut",
            "> a 104 look",
            "< a 105 done 8",
        ],
        Some("answer"),
    ),
    (
        "an early end",
        PROCESS,
        &["> a 100 check 8 50", "< a 101 new", "> a 148 look", "< a 149 nothing"],
        Some("answer"),
    ),
    (
        "an end in time",
        PROCESS,
        &["> a 100 check 8 50", "< a 101 new", "> a 150 look", "< a 150 nothing"],
        None,
    ),
    (
        "a late end",
        PROCESS,
        &["> a 100 check 8 50", "< a 101 new", "> a 151 look", "< a 152 done 8"],
        Some("answer"),
    ),
    (
        "an end that is taken back",
        PROCESS,
        &[
            "> a 100 check 8 50",
            "< a 101 new",
            "> a 150 look",
            "< a 150 nothing",
            "> a 150 look",
            "< a 150 done 8",
        ],
        Some("answer"),
    ),
    ("a time that runs back", PROCESS, &[NEW, "< a 99 new"], Some("time")),
    (
        "two holders",
        PROCESS,
        &["> a 1 begin", "< a 2 started 5", "> a 3 begin", "< a 4 started 6"],
        Some("answer"),
    ),
    (
        "a holder that was replaced",
        PROCESS,
        &[
            "> a 1 begin",
            "< a 2 started 5",
            "> a 3 remove",
            "< a 4 removed true",
            "> a 5 begin",
            "< a 6 started 7",
            "> a 7 complete 5 8",
            "< a 8 ended",
        ],
        Some("answer"),
    ),
    (
        "a lease that was lost for nothing",
        PROCESS,
        &["> a 1 begin", "< a 2 started 5", "> a 3 complete 5 8", "< a 4 lost"],
        Some("answer"),
    ),
    (
        "a token given out twice",
        PROCESS,
        &[
            "> a 1 begin",
            "< a 2 started 5",
            "> a 3 remove",
            "< a 4 removed true",
            "! kill",
            "> b 5 begin",
            "< b 6 started 5",
        ],
        Some("token"),
    ),
    (
        "a token that falls",
        PROCESS,
        &[
            "> a 1 begin",
            "< a 2 started 5",
            "> a 3 release 5",
            "< a 4 ended",
            "> a 5 begin",
            "< a 6 started 4",
        ],
        Some("token"),
    ),
    (
        "a released key",
        PROCESS,
        &[
            "> a 1 begin",
            "< a 2 started 5",
            "> a 3 release 5",
            "< a 4 ended",
            "! kill",
            "> a 5 begin",
            "< a 6 started 9",
        ],
        None,
    ),
    (
        "a refusal that changed something",
        PROCESS,
        &[NEW, "< a 101 refused unchanged no room", "> a 102 look", "< a 103 done 8"],
        Some("answer"),
    ),
    (
        "a refusal that may have",
        PROCESS,
        &[NEW, "< a 101 refused indeterminate x", "> a 102 look", "< a 103 done 8"],
        None,
    ),
    ("damage", PROCESS, &[NEW, "< a 101 refused damage x"], Some("damage")),
    (
        "two winners",
        PROCESS,
        &["> r 1 race 8", "> r 1 race 16", "< r 2 won 8", "< r 2 won 16"],
        Some("race"),
    ),
    (
        "a winner and another one's outcome",
        PROCESS,
        &["> r 1 race 8", "> r 1 race 16", "< r 2 won 8", "< r 2 duplicate 16"],
        Some("race"),
    ),
    (
        "a winner that is lost",
        PROCESS,
        &["> r 1 race 8", "< r 2 won 8", "! kill", "< r 3 nothing"],
        Some("race"),
    ),
    (
        "a race",
        PROCESS,
        &[
            "> r 1 race 8",
            "> r 1 race 16",
            "< r 2 duplicate 8",
            "< r 2 won 8",
            "! kill",
            "< r 3 done 8",
        ],
        None,
    ),
];

/// Feeds all histories to checkers; how many were flagged as they should, and how many passed.
pub(crate) fn run() -> Result<(usize, usize), Failure> {
    let (mut flagged, mut passed) = (0, 0);
    for (name, level, lines, wanted) in STORIES {
        let found = tell(*level, lines)?;
        match (&found, wanted) {
            (Err(violation), Some(rule)) if violation.rule == *rule => flagged += 1,
            (Ok(()), None) => passed += 1,
            _ => {
                let what = format!("the checker is blind to {name}: {found:?}, not {wanted:?}");
                return Err(what.into());
            }
        }
    }
    Ok((flagged, passed))
}

fn tell(level: Durability, lines: &[&str]) -> Result<Result<(), Violation>, Failure> {
    let mut oracle = Oracle::new(level);
    for text in lines {
        match *text {
            "! kill" => oracle.process_ended(),
            "! cut" => oracle.power_cut(),
            text => {
                let line = Line::parse(text).ok_or_else(|| format!("`{text}` is no line"))?;
                if line.to_string() != text {
                    return Err(format!("`{text}` is written as `{line}`").into());
                }
                if let Err(violation) = oracle.feed(&line) {
                    return Ok(Err(violation));
                }
            }
        }
    }
    Ok(Ok(()))
}
