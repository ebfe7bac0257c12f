//! Oncelog at `synced` with many calls in flight, each with a ticket of its own.

use oncelog::{Check, Store, Ticket};

use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// A store with default settings, whose calls return at once.
///
/// Durability `synced`, whatever is asked for: a thread makes as many single calls as a batch has
/// keys, takes a ticket after each of them, and then waits for all of the tickets. The rate is that
/// of a service which answers its callers once their tickets are settled. A call that is measured
/// here is thus as many calls in flight. A look-up is `contains` and waits for nothing.
#[derive(Debug)]
pub struct Tickets(Store);

/// A handle, and the tickets in flight.
#[derive(Debug)]
pub struct TicketsSession<'a> {
    store: &'a Store,
    tickets: Vec<Ticket>,
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Tickets {
    type Session<'a> = TicketsSession<'a>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        Ok(Tickets(Store::open(setup.dir)?))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(TicketsSession {
            store: &self.0,
            tickets: Vec::new(),
        })
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for TicketsSession<'_> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_many(std::slice::from_ref(item), tally)
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        for (at, (key, outcome)) in items.iter().enumerate() {
            match self.store.check_and_set(key, outcome)? {
                Check::New => tally.answer(at, None),
                Check::Duplicate(record) => tally.answer(at, Some(record.outcome())),
            }
            self.tickets.push(self.store.ticket()?);
        }
        for ticket in self.tickets.drain(..) {
            ticket.wait()?;
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Ok(self.store.contains(key)?)
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let mut known = 0;
        for key in keys {
            known += usize::from(self.store.contains(key)?);
        }
        Ok(known)
    }
}
