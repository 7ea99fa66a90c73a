//! Amounts of bytes as people read them: short for columns, with the unit's full name in sentences.

/// Formats an amount of bytes in at most five characters, in steps of 1024: `0`, `812K`, `1.2M`,
/// `1023G`.
pub fn size(bytes: u64) -> String {
    const UNITS: [char; 7] = ['B', 'K', 'M', 'G', 'T', 'P', 'E'];
    if bytes == 0 {
        return "0".into();
    }
    let mut scale: u128 = 1;
    for (step, unit) in UNITS.into_iter().enumerate() {
        let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
        let whole = (u128::from(bytes) + scale / 2) / scale;
        if step > 0 && tenths < 100 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        if whole < 1024 {
            return format!("{whole}{unit}");
        }
        scale *= 1024;
    }
    format!("{bytes}") // unreachable: 2^64 is 16E
}

/// Formats an amount of memory for a sentence: `64 MiB`, `19.6 MiB`, `512 KiB`; rounded to tenths of the unit.
pub fn memory(bytes: u64) -> String {
    let (shift, unit) = match bytes {
        bytes if bytes >= 1 << 30 => (30, "GiB"),
        bytes if bytes >= 1 << 20 => (20, "MiB"),
        bytes if bytes >= 1 << 10 => (10, "KiB"),
        bytes => return format!("{bytes} bytes"),
    };
    let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_short() {
        const M: u64 = 1 << 20;
        let cases = [
            (0, "0"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (812 * 1024, "812K"),
            (M + M / 5, "1.2M"),
            (M - 1, "1.0M"),
            (10 * M - 1, "10M"),
            (u64::MAX, "16E"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn memory_is_rounded_and_not_cut_off() {
        const M: u64 = 1 << 20;
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (512 << 10, "512 KiB"),
            (20_104 << 10, "19.6 MiB"),
            (67_096_576, "64 MiB"),
            (64 * M, "64 MiB"),
            (1536 * M, "1.5 GiB"),
            (u64::MAX, "17179869184 GiB"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn sizes_keep_their_width(n: u64) {
            prop_assert!(size(n).len() <= 5);
        }
    }
}
