//! The suite over the near tier, before the embedded engine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncelog::backend::suite::{Able, Clients, Harness, Skew, Task, Time, run_all, run_named};
use oncelog::backend::{AnyBackend, Tiered};
use oncelog::{Policy, Result};

use crate::embedded::Embedded;
use crate::sides::{HOUR, STALENESS};
use crate::threads::{block_on, spawn};

/// Tiers by namespace and policy.
type Shared = Vec<(String, Tiered<AnyBackend>)>;

/// Tiers over the embedded engine.
struct Tiers {
    far: Embedded,
    staleness: Duration,
    /// Of each namespace, the tier that its clients are clones of; unless each has its own.
    shared: Option<Mutex<Shared>>,
    made: AtomicU64,
}

impl Tiers {
    fn new(far: Embedded, staleness: Duration, shared: bool) -> Self {
        let shared = shared.then(Mutex::default);
        Self { far, staleness, shared, made: AtomicU64::new(0) }
    }

    async fn tier(&self, name: &str, policy: Policy) -> Result<AnyBackend> {
        let far = self.far.client(name, policy).await?;
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        // Limits of policies differ, so a tier is shared by those who have one policy.
        let id = format!("{name} {policy:?}");
        if let Some(shared) = &self.shared
            && let Some((_, tier)) = shared.lock().unwrap().iter().find(|(other, _)| *other == id)
        {
            return Ok(AnyBackend::new(tier.clone()));
        }
        let near = self.far.store().namespace(&format!("near {number}"), policy)?;
        let tier = Tiered::new(near, far, self.staleness)?;
        if let Some(shared) = &self.shared {
            shared.lock().unwrap().push((id, tier.clone()));
        }
        Ok(AnyBackend::new(tier))
    }

    /// How many keys were answered near by.
    fn answered_near(&self) -> u64 {
        let shared = self.shared.as_ref().map(|shared| shared.lock().unwrap());
        shared.map_or(0, |tiers| tiers.iter().map(|(_, t)| t.stats().answered_near).sum())
    }
}

impl Harness for Tiers {
    fn client<'a>(&'a self, name: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
        Box::pin(self.tier(name, policy))
    }

    fn spawn(&self, task: Task<'static, ()>) {
        spawn(task);
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        self.far.sleep(time)
    }

    fn restart(&self) -> Task<'_, Able<Clients>> {
        Box::pin(async {
            // Their stores are closed with it.
            if let Some(shared) = &self.shared {
                shared.lock().unwrap().clear();
            }
            self.far.restart().await
        })
    }

    fn skewed_client<'a>(
        &'a self,
        _name: &'a str,
        _policy: Policy,
        _skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>> {
        Box::pin(async { Able::Cannot("all clients have the clock of the store") })
    }

    fn time(&self) -> Time {
        self.far.time()
    }

    fn pass(&self, time: Duration) -> Task<'_, ()> {
        self.far.pass(time)
    }
}

/// Two cases keep the clients of one namespace under two policies apart, each with a tier.
fn passes(tiers: &Tiers) {
    block_on(run_all(tiers)).assert_passed();
}

#[test]
fn one_tier_keeps_the_contract_by_a_clock_moved_by_hand() {
    let tiers = Tiers::new(Embedded::still(), HOUR, true);
    passes(&tiers);
    // Else nothing was shown. Those of the last cases are still there.
    assert!(tiers.answered_near() > 100, "{}", tiers.answered_near());
}

#[test]
fn one_tier_keeps_the_contract_by_the_clock_of_the_system() {
    passes(&Tiers::new(Embedded::running(), STALENESS, true));
}

#[test]
fn tiers_that_keep_nothing_keep_the_contract_whoever_else_there_is() {
    passes(&Tiers::new(Embedded::still(), Duration::ZERO, false));
}

/// The suite notices a tier that is told of removals by nobody.
#[test]
fn tiers_of_their_own_are_stale_after_removals_by_others() {
    let tiers = Tiers::new(Embedded::still(), HOUR, false);
    let report = block_on(run_named(&tiers, &["a_removal_is_seen_by_all_clients"]));
    assert_eq!(report.failed().len(), 1);
}
