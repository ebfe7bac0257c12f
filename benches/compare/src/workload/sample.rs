//! What a store that was opened again must still know.

use super::Present;
use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Session};
use crate::keys::{Generator, Shuffle, invert};
use crate::tally::Tally;

/// Keys asked for, of those that are present and of others.
const PRESENT: u64 = 10_000;
const ABSENT: u64 = 1_000;

/// Checks a sample of the keys present, and some that are not; not timed. How many were checked.
pub fn verify<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<u64> {
    let generator = Generator::new(args.seed, args.key_shape);
    let shuffle = Shuffle::new(present.len(), args.seed);
    let mut session = engine.session()?;
    let mut tally = Tally::<V>::default();
    let sample = present.len().min(PRESENT);
    let mut item = (K::zeros(args.key_shape.len()), V::zeros(args.outcome_bytes));
    for position in 0..sample {
        generator.item(present.index(shuffle.at(position)), &mut item);
        tally.expected = vec![item.1.clone()];
        invert(&mut item.1);
        session.set(&item, &mut tally)?;
    }
    let mut found = 0;
    for index in 0..ABSENT {
        generator.absent(index, &mut item.0);
        found += u64::from(session.has(&item.0)?);
    }
    if tally.duplicate != sample || found != 0 {
        return Err(format!(
            "after the reopening, {} of {sample} keys are lost, {} have another outcome and \
             {found} absent keys are found",
            tally.new, tally.mismatched,
        )
        .into());
    }
    Ok(sample)
}

/// Asks for one key that is present, as the first answer after an opening.
pub fn first_answer<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<()> {
    let generator = Generator::new(args.seed, args.key_shape);
    let mut key = K::zeros(args.key_shape.len());
    generator.key(present.index(present.len() / 2), &mut key);
    match engine.session()?.has(&key)? {
        true => Ok(()),
        false => Err("the first key asked for after the reopening is lost".into()),
    }
}
