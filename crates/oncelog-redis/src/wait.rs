//! Waiting for a key: woken by a message, or by looking at it at growing intervals.

use std::pin::pin;
use std::time::Duration;

use oncelog::{Meta, Result, Status};
use redis::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::answer::Parts;
use crate::backend::RedisBackend;
use crate::call::Effect;
use crate::connect::Connect;
use crate::script::SCRIPTS;

/// Between the first two looks where nobody wakes.
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// Between later ones.
const LOOK_MAX: Duration = Duration::from_millis(250);
/// Between two looks of one who is woken, in case that the message was lost.
const LOOK_WOKEN: Duration = Duration::from_secs(1);

impl<S: Connect> RedisBackend<S> {
    /// The state of a key and the server's time; `watched` has it say that it is waited for.
    pub(crate) async fn look(&self, name: &[u8], watched: bool) -> Result<(u64, Option<Meta>)> {
        let script = if watched { &SCRIPTS.watch } else { &SCRIPTS.peek };
        // That a key is waited for is no part of what is recorded: no replica need know.
        let (value, _) = self.shared.caller.ask(script, script.on(name), Effect::Reads).await?;
        match value {
            Value::Nil => Ok((0, None)),
            value => Parts::of(value)?.meta(),
        }
    }

    pub(crate) async fn wait_for(&self, key: &[u8], limit: Duration) -> Result<Option<Meta>> {
        let name = self.shared.names.key(key)?;
        let begin = Instant::now();
        let board = self.shared.board.as_ref();
        let place = board.map(|board| board.place(&name));
        let mut pause = LOOK_FIRST;
        loop {
            let listening = board.is_some_and(|board| board.is_listening());
            let mut woken = pin!(place.as_ref().map(|place| place.notify.notified()));
            // From before the look: what ends the lease after it is not missed.
            if let Some(woken) = woken.as_mut().as_pin_mut() {
                woken.enable();
            }
            let (now, meta) = self.look(&name, listening).await?;
            let Some(found) = meta.filter(|meta| meta.status == Status::InProgress) else {
                return Ok(meta);
            };
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(Some(found));
            }
            let deadline = found.deadline.map_or(0, |deadline| deadline.as_millis());
            let leased = Duration::from_millis(deadline.saturating_sub(now).max(1));
            let longest = if listening { LOOK_WOKEN } else { pause };
            let nap = longest.min(leased).min(left);
            pause = (pause * 2).min(LOOK_MAX);
            match woken.as_pin_mut() {
                // Woken or not, the key is looked at again.
                Some(woken) => drop(timeout(nap, woken).await),
                None => sleep(nap).await,
            }
        }
    }
}
