//! Numbers, flags and lists as the kernel writes them in the files of `/proc`, and the error of a
//! file that cannot be parsed. Bytes in, values out: names in these files need not be UTF-8.

use std::borrow::Cow;

/// A kernel file that is not in the known form: cut off, or of an unknown kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no readable `{field}` in `{file}`")]
pub struct ParseError {
    /// The file, without its directory: `status`.
    pub file: &'static str,
    /// The field, as the kernel or its man page names it: `SigCgt`.
    pub field: &'static str,
}

/// Returns bytes as text for a message: those that are not UTF-8 become `\xNN`, as where they are printed. Control
/// characters stay, and are escaped there.
pub fn message_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

/// Parses decimal digits and nothing else, if the type can hold the number.
pub(super) fn decimal<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits {
        let ones = digit.wrapping_sub(b'0');
        if ones > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(ones))?;
    }
    T::try_from(number).ok()
}

/// Parses the digits that bytes begin with.
pub(super) fn leading_number<T: TryFrom<u64>>(bytes: &[u8]) -> Option<T> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    decimal(&bytes[..end])
}

/// Parses a decimal number that may be negative.
pub(super) fn signed(field: &[u8]) -> Option<i32> {
    let number = match field.strip_prefix(b"-") {
        Some(digits) => -decimal::<i64>(digits)?,
        None => decimal::<i64>(field)?,
    };
    i32::try_from(number).ok()
}

/// Parses octal digits: a umask.
pub(super) fn octal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'7' => Some(number << 3 | u32::from(digit - b'0')),
        _ => None,
    })
}

/// Parses `0` or `1`.
pub(super) fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// Splits a line at spaces and tabs.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// Parses any number of decimal numbers.
pub(super) fn list<T: TryFrom<u64>>(value: &[u8]) -> Option<Vec<T>> {
    words(value).map(decimal).collect()
}

/// Parses exactly four decimal numbers: real, effective, saved and file system ID.
pub(super) fn four(value: &[u8]) -> Option<[u32; 4]> {
    let mut ids = [0; 4];
    let mut words = words(value);
    for id in &mut ids {
        *id = decimal(words.next()?)?;
    }
    words.next().is_none().then_some(ids)
}

/// Parses a size such as `1712 kB`, and returns it in bytes.
pub(super) fn kilobytes(value: &[u8]) -> Option<u64> {
    decimal::<u64>(value.strip_suffix(b" kB")?)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf_8_are_escaped_in_messages() {
        assert_eq!(message_text(b"caf\xe9 \xc3\xa9"), "caf\\xe9 \u{e9}");
        assert_eq!(message_text(b"plain\x1b"), "plain\x1b");
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(decimal::<u64>(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal::<u32>(b"4294967295"), Some(u32::MAX));
        assert_eq!(decimal::<u32>(b"4294967296"), None);
        for bad in [&b""[..], b"-1", b"+1", b" 1", b"1x", b"18446744073709551616", b"\xff"] {
            assert_eq!(decimal::<u64>(bad), None);
        }
        assert_eq!(signed(b"-2147483648"), Some(i32::MIN));
        assert_eq!((signed(b"2147483648"), signed(b"--1"), signed(b"-")), (None, None, None));
    }

    #[test]
    fn lists_and_sizes_are_whole_or_nothing() {
        assert_eq!(list::<u32>(b"4 24\t1000 "), Some(vec![4, 24, 1000]));
        assert_eq!((list::<u32>(b""), list::<u32>(b"4 -1")), (Some(Vec::new()), None));
        assert_eq!(four(b"1\t2 3 4"), Some([1, 2, 3, 4]));
        assert_eq!((four(b"1 2 3"), four(b"1 2 3 4 5")), (None, None));
        assert_eq!((kilobytes(b"   1 kB"), kilobytes(b"1 kB")), (None, Some(1024)));
        assert_eq!((kilobytes(b"18446744073709551615 kB"), kilobytes(b"1")), (None, None));
        assert_eq!((octal(b"0022"), octal(b"8"), octal(b"")), (Some(0o22), None, None));
        assert_eq!((flag(b"1"), flag(b"0"), flag(b"2")), (Some(true), Some(false), None));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = (decimal::<u64>(&bytes), signed(&bytes), octal(&bytes), flag(&bytes));
            let _ = (list::<i32>(&bytes), four(&bytes), kilobytes(&bytes));
        }

        #[test]
        fn a_formatted_number_is_parsed_back(number: u64, other: i32) {
            prop_assert_eq!(decimal(number.to_string().as_bytes()), Some(number));
            prop_assert_eq!(signed(other.to_string().as_bytes()), Some(other));
        }
    }
}
