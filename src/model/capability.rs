//! Capability sets as `status` prints them (CapEff and its kin, capabilities(7)), and which of our
//! own a command lacks. Names come from the caps crate.

use caps::Capability;

/// Names of the capabilities in a mask, without `CAP_`, in lower case, in number order; bits that
/// this build does not know are given by number.
pub fn names(mask: u64) -> Vec<String> {
    let mut left = mask;
    let mut known: Vec<(u8, String)> = Vec::new();
    for capability in caps::all() {
        if mask & capability.bitmask() != 0 {
            left &= !capability.bitmask();
            known.push((capability.index(), short(capability)));
        }
    }
    known.extend((0..64).filter(|bit| left >> bit & 1 == 1).map(|bit| (bit, bit.to_string())));
    known.sort();
    known.into_iter().map(|(_, name)| name).collect()
}

/// A mask for people: `-` for none, `all` for every capability this build knows, `~x,y` when fewer
/// are missing than present.
pub fn summary(mask: u64) -> String {
    let every = caps::all().iter().fold(0, |all, c| all | c.bitmask());
    if mask == 0 {
        "-".into()
    } else if mask & every == every {
        "all".into()
    } else if mask.count_ones() * 2 > every.count_ones() {
        format!("~{}", names(every & !mask).join(","))
    } else {
        names(mask).join(",")
    }
}

fn short(capability: Capability) -> String {
    let name = capability.to_string();
    name.strip_prefix("CAP_").unwrap_or(&name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_as_names() {
        assert_eq!(summary(0), "-");
        assert_eq!(names(1 << 5 | 1 << 0), ["chown", "kill"]);
        assert_eq!(names(1 << 63), ["63"]);
        assert_eq!(summary(u64::MAX), "all");
        assert!(summary(!(1u64 << 24)).starts_with("~sys_resource"));
    }
}
