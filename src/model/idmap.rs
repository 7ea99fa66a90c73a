//! `/proc/PID/uid_map` and `gid_map`: translating user and group IDs between a user namespace and the
//! one outside it (user_namespaces(7)). Uses the map alone; never looks up a user.

use super::bytes::{ParseError, decimal, words};

/// The map of a user namespace. "Outside" is the user namespace of the process that opened the file. An
/// ID without a counterpart is shown as 65534 by the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// The ranges in the order of the file; none before the map is written.
    pub ranges: Vec<IdRange>,
}

/// A range of consecutive IDs in a user namespace and as many in its parent. Neither exceeds `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First ID in the namespace.
    pub inside: u32,
    /// First ID in its parent.
    pub outside: u32,
    /// Number of IDs, at least one.
    pub count: u32,
}

impl IdMap {
    /// Parses the file, at most 340 lines (5 before Linux 4.15).
    ///
    /// ```text
    ///          0       1000          1
    ///          1     100000      65536
    /// ```
    ///
    /// # Errors
    /// [`ParseError`] if a line is not three numbers, or a range exceeds `u32`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let ranges = lines.map(IdRange::parse).collect::<Option<_>>();
        Ok(Self { ranges: ranges.ok_or(ParseError { file: "uid_map", field: "range" })? })
    }

    /// Translates an ID of the parent to the one in the namespace.
    pub fn to_inside(&self, outside: u32) -> Option<u32> {
        self.ranges
            .iter()
            .find_map(|range| counterpart(outside, range.outside, range.inside, range.count))
    }

    /// Translates an ID in the namespace to the one of the parent.
    pub fn to_outside(&self, inside: u32) -> Option<u32> {
        self.ranges
            .iter()
            .find_map(|range| counterpart(inside, range.inside, range.outside, range.count))
    }

    /// Whether every ID is mapped to itself: in the initial user namespace, and in one that maps all of
    /// them. 4294967295 is not an ID.
    pub fn is_identity(&self) -> bool {
        let ids: u64 = self.ranges.iter().map(|range| u64::from(range.count)).sum();
        ids == u64::from(u32::MAX) && self.ranges.iter().all(|range| range.inside == range.outside)
    }
}

impl IdRange {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = words(line);
        let mut next = || decimal(words.next()?);
        let (inside, outside, count): (u32, u32, u32) = (next()?, next()?, next()?);
        let last = count.checked_sub(1)?;
        inside.checked_add(last)?;
        outside.checked_add(last)?;
        words.next().is_none().then_some(Self { inside, outside, count })
    }
}

fn counterpart(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    let index = id.checked_sub(from)?;
    if index < count { to.checked_add(index) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn translates_ids_of_a_rootless_container() {
        let map =
            IdMap::parse(b"         0       1000          1\n         1     100000      65536\n")
                .unwrap();
        assert_eq!((map.to_inside(1000), map.to_inside(100_000)), (Some(0), Some(1)));
        assert_eq!((map.to_inside(165_535), map.to_inside(165_536)), (Some(65_536), None));
        assert_eq!((map.to_inside(0), map.to_inside(999)), (None, None));
        assert_eq!((map.to_outside(0), map.to_outside(33)), (Some(1000), Some(100_032)));
        assert_eq!(map.to_outside(65_537), None);
        assert!(!map.is_identity());
    }

    #[test]
    fn the_initial_namespace_maps_ids_to_themselves() {
        let whole = IdMap::parse(b"         0          0 4294967295\n").unwrap();
        assert!(whole.is_identity());
        assert_eq!(
            (whole.to_inside(4_294_967_294), whole.to_inside(u32::MAX)),
            (Some(4_294_967_294), None)
        );
        assert!(IdMap::parse(b"0 0 1000\n1000 1000 4294966295\n").unwrap().is_identity());
        assert!(!IdMap::parse(b"0 0 65536\n").unwrap().is_identity());
    }

    #[test]
    fn an_unwritten_map_translates_nothing() {
        let map = IdMap::parse(b"").unwrap();
        assert_eq!((map.to_inside(0), map.to_outside(0), map.is_identity()), (None, None, false));
    }

    #[test]
    fn the_last_id_does_not_overflow() {
        let map = IdMap::parse(b"4294967295 0 1").unwrap();
        assert_eq!((map.to_inside(0), map.to_outside(u32::MAX)), (Some(u32::MAX), Some(0)));
        for bad in [
            "0 0 0",
            "0 1 4294967296",
            "2 0 4294967295",
            "0 2 4294967295",
            "0 0",
            "0 0 1 1",
            "-1 0 1",
            "a b c",
        ] {
            assert!(IdMap::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>, text in "([0-9]{0,11}[ \n]){0,12}", id: u32) {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Ok(map) = IdMap::parse(bytes) {
                    let _ = (map.to_inside(id), map.to_outside(id), map.is_identity());
                }
            }
        }

        #[test]
        fn translating_back_returns_the_same_id(inside: u32, outside: u32, count: u32, index: u32) {
            let text = format!("{inside:>10} {outside:>10} {count:>10}\n");
            if let Ok(map) = IdMap::parse(text.as_bytes()) {
                let id = inside + index % count;
                prop_assert_eq!(map.to_outside(id).and_then(|id| map.to_inside(id)), Some(id));
            }
        }
    }
}
