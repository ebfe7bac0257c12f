//! Waiting until nobody works on a key: told by the server, and looking now and then all the same.

use std::time::Duration;

use oncelog::{Meta, Result, Status};
use tokio::time::Instant;

use crate::keys::Keys;
use crate::listen::{Listener, Place};
use crate::verbs::{self, Ask};

/// The first pause between two looks, and the longest without and with a listener that is
/// connected: a message may be lost, and the end may be noticed late by a second.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(400);
const PAUSE_LISTENING: Duration = Duration::from_millis(800);
/// How long the server is asked to tell. Asked for again at every look.
const TOLD_MS: i64 = 5_000;
/// Stands for a time that is too far ahead to be told.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) async fn until_free(
    keys: &Keys,
    server: &impl Ask,
    listener: Option<&Listener>,
    key: &[u8],
    timeout: Duration,
) -> Result<Option<Meta>> {
    let now = Instant::now();
    let end = now.checked_add(timeout).unwrap_or(now + FAR);
    let mut place: Option<Place> = None;
    let mut pause = PAUSE_MIN;
    let mut is_told = false;
    loop {
        let Some((meta, seen)) = keys.peek_at(server, key).await? else { return Ok(None) };
        if meta.status != Status::InProgress || Instant::now() >= end {
            return Ok(Some(meta));
        }
        if let Some(listener) = listener {
            let place = place.get_or_insert_with(|| listener.place(keys.space, key));
            let values: &verbs::Values<'_> = &[&keys.space, &key, &place.token(), &TOLD_MS];
            let was_told = is_told;
            // Where nothing can be written, on a standby, looking has to do.
            is_told = place.is_connected() && server.ask(&verbs::AWAIT, values).await.is_ok();
            if is_told && !was_told {
                // What came before the server was asked to tell is seen by looking again.
                continue;
            }
        }
        let deadline = meta.deadline.unwrap_or_default().as_millis();
        let left = Duration::from_millis(deadline.saturating_sub(seen.as_millis()));
        let next = if is_told { PAUSE_LISTENING } else { pause };
        let until = Instant::now() + next.min(left);
        let until = until.min(end);
        match &mut place {
            Some(place) => {
                let _ = tokio::time::timeout_at(until, place.told()).await;
            }
            None => tokio::time::sleep_until(until).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
