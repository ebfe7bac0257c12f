//! The memory of a run: the store that was named, or one that ends with the run.

use oncelog::{Store, Ttl};
use tempfile::TempDir;

use crate::args::DedupArgs;
use crate::exit::Failure;
use crate::input::ITEM_BYTES_MAX;

/// The longest key the engine can be set to take.
const KEY_BYTES_MAX: usize = 65_535;

/// An open store and, for a temporary one, the directory that goes with it.
#[derive(Debug)]
pub(crate) struct Memory {
    store: Store,
    temporary: Option<TempDir>,
}

impl Memory {
    pub(crate) fn open(arguments: &DedupArgs) -> Result<Self, Failure> {
        let builder =
            Store::builder().key_bytes_max(KEY_BYTES_MAX).outcome_bytes_max(ITEM_BYTES_MAX);
        let builder = builder.durability(arguments.durability);
        let builder = match (arguments.ttl, &arguments.store) {
            (Some(ttl), _) => builder.ttl(ttl),
            (None, Some(_)) => builder,
            (None, None) => builder.ttl(Ttl::Never),
        };
        if let Some(directory) = &arguments.store {
            return Ok(Self { store: builder.open(directory)?, temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix("oncelog-").tempdir().map_err(|error| {
            Failure::Runtime(format!(
                "could not create a directory for temporary files: {error}; set TMPDIR to a \
                 place with room, or name a --store"
            ))
        })?;
        Ok(Self { store: builder.open(temporary.path())?, temporary: Some(temporary) })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Brings a named store to stable storage, and removes a temporary one.
    pub(crate) fn close(self) -> Result<(), Failure> {
        let Some(temporary) = self.temporary else {
            return Ok(self.store.close()?);
        };
        // The last handle: nothing works in the directory any more.
        drop(self.store);
        let path = temporary.path().to_path_buf();
        temporary.close().map_err(|error| {
            let path = path.display();
            Failure::Runtime(format!("could not remove {path}: {error}; remove it by hand"))
        })
    }
}
