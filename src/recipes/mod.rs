//! The patterns that services build against duplicates, each as a small module on the store.
//!
//! A recipe is opened on a store under a name and keeps all that it knows as records of that store:
//! it is as durable as these, and there is nothing beside them. It has no thread and no memory of
//! its own, so any number of handles, opened at any time, are the same recipe. Recipes of different
//! kinds or names never meet in one store. The one exception is `ballot`, which has a store of its
//! own and counts in memory what is in it. docs/recipes.md says which one is for what.
//!
//! Each verb of a recipe answers with an enum of that verb's name, as `begin` answers `Begin`:
//! what came of the call is an answer, and an error is the store's.

mod keys;
#[cfg(test)]
mod power_tests;

pub mod audit;
#[cfg(feature = "ballot")]
pub mod ballot;
pub mod budget;
pub mod checkpoint;
pub mod consumer;
pub mod debounce;
#[cfg(feature = "digest")]
pub mod digest;
pub mod fence;
pub mod nonce;
pub mod outbox;
pub mod schedule;
pub mod sequence;
pub mod state;
pub mod token;
