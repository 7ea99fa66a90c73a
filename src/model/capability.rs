//! Capability sets as `status` prints them (CapEff and others, capabilities(7)), formatted by name. The
//! names come from the caps crate.

use caps::Capability;

/// Returns the names of the capabilities in a mask, without `CAP_`, in lower case, in numeric order; bits
/// without a name in the caps crate are numbers.
pub fn names(mask: u64) -> Vec<String> {
    let known = caps::all();
    let name = |bit: u8| {
        let capability = known.iter().find(|capability| capability.index() == bit);
        capability.map_or_else(|| bit.to_string(), |capability| short_name(*capability))
    };
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

/// Formats a mask for display: `-` for none, `all` for every capability with a name, `~x,y` if fewer are
/// missing than present.
pub fn summary(mask: u64) -> String {
    let every = caps::all().iter().fold(0, |mask, c| mask | c.bitmask());
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

fn short_name(capability: Capability) -> String {
    let name = capability.to_string();
    name.strip_prefix("CAP_").unwrap_or(&name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_masks_by_name() {
        assert_eq!(summary(0), "-");
        assert_eq!(names(1 << 5 | 1 << 0), ["chown", "kill"]);
        assert_eq!(names(1 << 63), ["63"]);
        assert_eq!(summary(u64::MAX), "all");
        assert!(summary(!(1u64 << 24)).starts_with("~sys_resource"));
    }
}
