//! Keys from a pattern: its first group, or the whole match of a pattern without groups.

use regex::bytes::{CaptureLocations, Regex};

use crate::key::{Missing, REGEX};

#[derive(Debug)]
pub(crate) struct RegexKey {
    pattern: Regex,
    places: CaptureLocations,
    group: usize,
}

impl RegexKey {
    pub(crate) fn new(pattern: Regex) -> Self {
        let places = pattern.capture_locations();
        let group = usize::from(pattern.captures_len() > 1);
        Self { pattern, places, group }
    }

    pub(crate) fn key(&mut self, item: &[u8], into: &mut Vec<u8>) -> Result<(), Missing> {
        let found = if self.group == 0 {
            self.pattern.find(item).map(|found| found.range())
        } else {
            self.pattern
                .captures_read(&mut self.places, item)
                .and_then(|_| self.places.get(self.group))
                .map(|(start, end)| start..end)
        };
        let range = found.ok_or(Missing::Absent("the pattern matches nothing in it"))?;
        into.extend_from_slice(REGEX);
        into.extend_from_slice(item.get(range).unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Missing, Regex, RegexKey};

    fn key(pattern: &str, item: &[u8]) -> Result<Vec<u8>, Missing> {
        let mut bytes = Vec::new();
        RegexKey::new(Regex::new(pattern).unwrap()).key(item, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn the_first_group_is_the_key() {
        assert_eq!(key("id=(\\d+) (\\w+)", b"x id=17 y"), Ok(b"\n\0r17".to_vec()));
    }

    #[test]
    fn without_groups_the_whole_match_is_the_key() {
        assert_eq!(key("id=\\d+", b"\xffid=17 y"), Ok(b"\n\0rid=17".to_vec()));
    }

    #[test]
    fn a_group_that_took_no_part_is_a_missing_key() {
        assert!(key("a|(b)", b"a").is_err());
        assert!(key("z", b"a").is_err());
    }
}
