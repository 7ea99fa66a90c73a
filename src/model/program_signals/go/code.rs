//! The address of the Go runtime's signal table, read from the machine code of the function that fills
//! it, `os/signal.signal_enable`. Every reference to the table in that function has to fit, so that the
//! code itself proves the offsets that [`super::table`] relies on. Pure, and any bytes are safe.

use memchr::memmem;

use super::table;
use crate::model::program_signals::elf::Machine;

/// Bytes that follow the first reference to the table and hold all the others: the whole function has
/// 160 at most.
pub const WINDOW: usize = 256;
/// References to memory in a piece of code.
#[derive(Default)]
struct References {
    /// Addresses of bytes that are set.
    stored: Vec<u64>,
    /// Addresses that are computed.
    computed: Vec<u64>,
}

impl References {
    /// Returns the address of the table, if `in_use` is its flag of that name: the function tests it,
    /// sets it, and then takes the addresses of two sets.
    fn table(&self, in_use: u64) -> Option<u64> {
        let table = in_use.checked_sub(table::IN_USE as u64)?;
        let sets = [table + table::WANTED as u64, table + table::IGNORED as u64];
        let fits = self.stored.contains(&in_use)
            && sets.iter().all(|address| self.computed.contains(address));
        fits.then_some(table)
    }
}

/// Finds the function in a piece of code that is loaded at `address`, and returns the address of the
/// table.
pub fn find_table(machine: Machine, code: &[u8], address: u64) -> Option<u64> {
    match machine {
        Machine::Amd64 => find_amd64(code, address),
        Machine::Arm64 => find_arm64(code, address),
    }
}

/// Finds the code:
/// ```text
/// 80 3d disp32 00     cmpb $0, inuse(%rip)
/// c6 05 disp32 01     movb $1, inuse(%rip)
/// 48 8d 0d disp32     lea  wanted(%rip), %rcx
/// 48 8d 0d disp32     lea  ignored(%rip), %rcx
/// ```
fn find_amd64(code: &[u8], address: u64) -> Option<u64> {
    memmem::find_iter(code, &[0x80, 0x3d]).find_map(|start| {
        let (in_use, 0x00) = relative(code, address, start)? else { return None };
        let mut references = References::default();
        for index in start + 7..(start + WINDOW).min(code.len()) {
            match (code.get(index..index + 3), relative(code, address, index)) {
                (Some([0xc6, 0x05, _]), Some((target, 0x01))) => references.stored.push(target),
                // (The last byte belongs to the next instruction.)
                (Some([0x48 | 0x4c, 0x8d, register]), _) if register & 0xc7 == 0x05 => {
                    let end = address.wrapping_add(index as u64 + 7);
                    references.computed.extend(displaced(code.get(index + 3..)?, end));
                }
                _ => {}
            }
        }
        references.table(in_use)
    })
}

/// Returns the target of an instruction of two bytes, a displacement and an immediate byte, and that.
fn relative(code: &[u8], address: u64, start: usize) -> Option<(u64, u8)> {
    let immediate = *code.get(start + 6)?;
    let end = address.wrapping_add(start as u64 + 7);
    Some((displaced(code.get(start + 2..)?, end)?, immediate))
}

/// Adds the displacement that a piece of code starts with.
fn displaced(code: &[u8], base: u64) -> Option<u64> {
    let displacement = i32::from_le_bytes(*code.first_chunk()?);
    Some(base.wrapping_add_signed(displacement.into()))
}

/// Finds the code:
/// ```text
/// adrp x27, page              adrp x27, page
/// add  x27, x27, #inuse       ldrb w2, [x27, #inuse]
/// ldrb w2, [x27]
/// ```
/// and the same with strb; then adrp and add for each set.
fn find_arm64(code: &[u8], address: u64) -> Option<u64> {
    let words: Vec<u32> =
        code.as_chunks().0.iter().map(|word: &[u8; 4]| u32::from_le_bytes(*word)).collect();
    let starts = words.iter().enumerate().filter(|(_, word)| **word & 0x9f00_0000 == 0x9000_0000);
    starts.into_iter().find_map(|(start, _)| {
        // Few of them load a byte.
        let head = words.get(start + 1..start + 3)?;
        if !head.iter().any(|word| word & 0xffc0_0000 == 0x3940_0000) {
            return None;
        }
        let window = &words[start..words.len().min(start + WINDOW / 4)];
        let (references, loaded) = arm64_references(window, address + 4 * start as u64);
        references.table(loaded?)
    })
}

/// Follows the addresses that ADRP and ADD leave in registers; returns also the first byte loaded.
fn arm64_references(words: &[u32], address: u64) -> (References, Option<u64>) {
    let mut registers: [Option<u64>; 32] = [None; 32];
    let mut references = References::default();
    let mut loaded = None;
    for (index, word) in words.iter().enumerate() {
        let (destination, source) = ((word & 0x1f) as usize, (word >> 5 & 0x1f) as usize);
        let offset = registers[source].map(|base| base.wrapping_add((word >> 10 & 0xfff).into()));
        match word & 0xffc0_0000 {
            _ if word & 0x9f00_0000 == 0x9000_0000 => {
                let pages = ((word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3) as i32;
                let page = (address + 4 * index as u64) & !0xfff;
                // 21 bits with a sign, in pages.
                let distance = i64::from(pages << 11 >> 11) << 12;
                registers[destination] = Some(page.wrapping_add_signed(distance));
            }
            0x9100_0000 => {
                registers[destination] = offset;
                references.computed.extend(offset);
            }
            0x3940_0000 => loaded = loaded.or(offset),
            0x3900_0000 => references.stored.extend(offset),
            _ => {}
        }
    }
    (references, loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go 1.16.4 on x86-64, loaded at 0x468641; its table is at 0x919a80. (Newer ones are built by
    /// tests/it/program_signals.rs.)
    const GO_1_16_AMD64: &str = "803d78144b0000745c8b44242083f860734989c1c1e8054883f803735c488d152f\
        144b008b1c82488d14820fabcb871aba01000000d3e2488d1d21144b00488d3483f7d22314838716890c24e8ee2bfeff\
        488b6c24104883c418c3488b6c24104883c418c3c60513144b000148c705c8134b0000000000eb90b903000000";
    /// Go 1.16.4 on AArch64, loaded at 0x7271c; its table is at 0x4cd940.
    const GO_1_16_ARM64: [u32; 43] = [
        0xf00022db, 0x9126037b, 0x39400362, 0xb4000402, 0xb9402be2, 0x7101805f, 0x54000342,
        0xd3457c43, 0x2a0303e0, 0xf1000c1f, 0x54000422, 0xd37e7c60, 0xf00022c1, 0x91255021,
        0xb8606823, 0x8b010001, 0x92401044, 0xb24003e5, 0x9ac420a4, 0xaa040063, 0x889ffc23,
        0xf00022c1, 0x91258021, 0xb8606823, 0x8b010000, 0x8a240061, 0x889ffc01, 0xb9000be2,
        0x97ff94c1, 0xf85f83fd, 0xf84207fe, 0xd65f03c0, 0xf85f83fd, 0xf84207fe, 0xd65f03c0,
        0xb24003e2, 0xf00022db, 0x9126037b, 0x39000362, 0xf00022db, 0x9125037b, 0xf900037f,
        0x17ffffda,
    ];

    fn amd64() -> Vec<u8> {
        let digits: Vec<u8> = GO_1_16_AMD64.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte =
            |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.as_chunks().0.iter().map(byte).collect()
    }

    fn arm64() -> Vec<u8> {
        GO_1_16_ARM64.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Returns the code of all cases, each with where it is loaded and where its table is.
    fn cases() -> [(Machine, Vec<u8>, u64, u64); 2] {
        [
            (Machine::Amd64, amd64(), 0x468641, 0x919a80),
            (Machine::Arm64, arm64(), 0x7271c, 0x4cd940),
        ]
    }

    #[test]
    fn finds_the_table_in_known_code() {
        for (machine, code, address, table) in cases() {
            assert_eq!(find_table(machine, &code, address), Some(table));
            // In the middle of other code, at another address.
            let moved = [vec![0x1f; 4096], code, vec![0x1f; 100]].concat();
            assert_eq!(find_table(machine, &moved, address), Some(table + 4096));
        }
    }

    #[test]
    fn each_reference_has_to_fit() {
        for (machine, code, address, table) in cases() {
            let cut = &code[..code.len() - 32];
            assert_eq!(find_table(machine, cut, address), None, "without the flag that is set");
            let mut wrong = 0;
            for index in 0..code.len() {
                let mut code = code.clone();
                code[index] ^= 0x10;
                match find_table(machine, &code, address) {
                    Some(found) => assert_eq!(found, table),
                    None => wrong += 1,
                }
            }
            assert!(wrong >= 20, "{machine:?}: {wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_code_is_safe(code: Vec<u8>, address: u64, index: u16, byte: u8) {
            for (machine, known, _, _) in cases() {
                let _ = find_table(machine, &code, address);
                let mut changed = [code.clone(), known].concat();
                let index = usize::from(index) % changed.len();
                changed[index] = byte;
                let _ = find_table(machine, &changed, address);
            }
        }
    }
}
