//! Keeps a lease alive while its handler works.
//!
//! A third of the lease after it began or was renewed it is renewed. That needs no task of its own:
//! whoever polls the handler polls this as well, and the timer wakes the same task.

use std::task::{Context, Poll};

use oncelog::backend::Backend;
use oncelog::{Error, Timestamp, Version};

use crate::claim::{Call, Claim};
use crate::event::Event;

/// A lease that the request holds.
pub(crate) struct Lease {
    pub(crate) version: Version,
    renewal: Renewal,
}

enum Renewal {
    /// The handler was not seen to take any time yet.
    Idle,
    Sleeping(Call<()>),
    Renewing(Call<Timestamp>),
    /// Lost, or nothing is left to wake it.
    Over,
}

impl Lease {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, renewal: Renewal::Idle }
    }

    /// Renews the lease if it is time, and sees to it that the task is woken when it is.
    pub(crate) fn poll<B: Backend + 'static>(
        &mut self,
        claim: &Claim<B>,
        context: &mut Context<'_>,
    ) {
        loop {
            self.renewal = match &mut self.renewal {
                Renewal::Over => return,
                Renewal::Idle => Renewal::Sleeping(claim.sleep(claim.policy.lease / 3)),
                Renewal::Sleeping(call) => match call.as_mut().poll(context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(())) => Renewal::Renewing(claim.renew(self.version)),
                    Poll::Ready(Err(error)) => failed(claim, &error),
                },
                Renewal::Renewing(call) => match call.as_mut().poll(context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(_)) => Renewal::Idle,
                    Poll::Ready(Err(Error::LeaseLost)) => {
                        claim.policy.tell(&Event::LeaseLost { key: claim.store_key });
                        Renewal::Over
                    }
                    Poll::Ready(Err(error)) => match failed(claim, &error) {
                        // With a timer of its own it is tried again, in time before the end.
                        Renewal::Over if claim.setup.timer.is_some() => Renewal::Idle,
                        renewal => renewal,
                    },
                },
            };
        }
    }
}

fn failed<B: Backend + 'static>(claim: &Claim<B>, error: &Error) -> Renewal {
    claim.policy.tell(&Event::StoreFailed { call: "renew", error });
    Renewal::Over
}
