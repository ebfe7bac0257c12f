//! Answers of scripts, taken apart.

use oncelog::{Meta, Record, Result};
use redis::Value;

use crate::{layout, trouble};

/// A number that is not negative.
pub(crate) fn number(value: Value) -> Result<u64> {
    let number = signed(value)?;
    u64::try_from(number).map_err(|_| trouble::strange("a negative number"))
}

pub(crate) fn signed(value: Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(number),
        _ => Err(trouble::strange("no number where one was expected")),
    }
}

/// The parts of an answer that has several.
pub(crate) struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    pub(crate) fn of(value: Value) -> Result<Self> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(trouble::strange("no list where one was expected")),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Value> {
        self.0.next().ok_or_else(|| trouble::strange("a list that ends too early"))
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        number(self.next()?)
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            _ => Err(trouble::strange("no bytes where some were expected")),
        }
    }

    pub(crate) fn rest(self) -> impl ExactSizeIterator<Item = Value> {
        self.0
    }

    /// The server's time and a whole record, of a key that has an outcome.
    pub(crate) fn record(&mut self) -> Result<Record> {
        let now = self.number()?;
        let record = layout::record(&self.bytes()?, now)?;
        record.ok_or_else(|| trouble::strange("a duplicate without an outcome"))
    }

    /// The server's time, the beginning of a record and how long that is.
    pub(crate) fn meta(&mut self) -> Result<(u64, Option<Meta>)> {
        let now = self.number()?;
        let bytes = self.bytes()?;
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        Ok((now, layout::meta(&bytes, len, now)?))
    }
}
