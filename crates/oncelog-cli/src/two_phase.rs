//! Items that are claimed before they are printed, and recorded after that.
//!
//! A run that was killed leaves claims behind. As nobody else can have the store open, a claim that
//! this run has not made is nobody's: its item may not have been printed, so it is claimed anew.

use std::collections::HashMap;

use oncelog::{Begin, Error, Lease, Store, Version};

use crate::key::long;

/// An item that is being printed.
#[derive(Debug)]
struct Claim {
    lease: Lease,
    /// What its key stands for, where the key is a digest.
    content: Vec<u8>,
}

/// The items that are being printed.
#[derive(Debug, Default)]
pub(crate) struct TwoPhase {
    claims: HashMap<Version, Claim>,
}

impl TwoPhase {
    /// True if the item is new: it is to be printed, and recorded with the others.
    pub(crate) fn claim(
        &mut self,
        store: &Store,
        key: &[u8],
        content: &[u8],
    ) -> Result<bool, Error> {
        let version = match store.begin(key)? {
            Begin::Started(lease) => {
                let claim = Claim { lease, content: content.to_vec() };
                self.claims.insert(claim.lease.version(), claim);
                return Ok(true);
            }
            Begin::Completed(record) if record.outcome() == content => return Ok(false),
            Begin::Completed(_) => return long::record_next(store, content),
            Begin::InProgress(other) => other.meta().version,
            Begin::Mismatch(meta) | Begin::Unknown(meta) | Begin::Exhausted(meta) => meta.version,
        };
        match self.claims.get(&version) {
            Some(own) if own.content == content => Ok(false),
            Some(_) => long::record_next(store, content),
            None => {
                store.remove_if(key, version)?;
                self.claim(store, key, content)
            }
        }
    }

    /// Records what was printed.
    pub(crate) fn record(&mut self) -> Result<(), Error> {
        for (_, mut claim) in self.claims.drain() {
            claim.lease.complete(&claim.content)?;
        }
        Ok(())
    }
}
