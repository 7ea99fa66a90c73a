//! The header of an ELF program (elf(5)): whether it needs a loader, and which machine it is for. Bytes in,
//! answer out.

use object::elf::{
    EM_386, EM_AARCH64, EM_ARM, EM_LOONGARCH, EM_MIPS, EM_PPC, EM_PPC64, EM_RISCV, EM_S390,
    EM_X86_64, ET_DYN, ET_EXEC, FileHeader32, FileHeader64, Machine, PT_INTERP,
};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

/// Bytes of a program that have its header and, in every program that linkers make, its program headers.
pub const HEAD: usize = 4096;

/// Machines as uname(1) names them.
const MACHINES: &[(Machine, &str)] = &[
    (EM_386, "i386"),
    (EM_MIPS, "mips"),
    (EM_PPC, "ppc"),
    (EM_PPC64, "ppc64"),
    (EM_S390, "s390x"),
    (EM_ARM, "arm"),
    (EM_X86_64, "x86_64"),
    (EM_AARCH64, "aarch64"),
    (EM_RISCV, "riscv64"),
    (EM_LOONGARCH, "loongarch64"),
];

/// A program's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfProgram {
    /// Whether it names a loader, which has to be in the file system that it runs in.
    pub is_dynamic: bool,
    /// Its machine, and whether it has 64 bits: programs with the same ones run on the same kernel.
    pub machine: (Machine, bool),
}

impl ElfProgram {
    /// Parses the beginning of a file; `None` if it is not an ELF program.
    pub fn parse(head: &[u8]) -> Option<Self> {
        match FileKind::parse(head).ok()? {
            FileKind::Elf32 => Self::of::<FileHeader32<Endianness>>(head),
            FileKind::Elf64 => Self::of::<FileHeader64<Endianness>>(head),
            _ => None,
        }
    }

    fn of<H: FileHeader<Endian = Endianness>>(head: &[u8]) -> Option<Self> {
        let header = H::parse(head).ok()?;
        let endian = header.endian().ok()?;
        if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
            return None;
        }
        let segments = header.program_headers(endian, head).ok()?;
        Some(Self {
            is_dynamic: segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP),
            machine: (header.e_machine(endian), header.is_class_64()),
        })
    }

    /// Returns the name of its machine.
    pub fn machine_name(&self) -> String {
        let known = MACHINES.iter().find(|(number, _)| *number == self.machine.0);
        known.map_or_else(|| format!("machine {}", self.machine.0.0), |(_, name)| (*name).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an ELF64 header with program headers of these types.
    fn program(machine: u16, types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56 * types.len()];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16..18].copy_from_slice(&3u16.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[20] = 1;
        bytes[52] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(types.len()).unwrap();
        for (index, kind) in types.iter().enumerate() {
            bytes[64 + 56 * index..][..4].copy_from_slice(&kind.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_loader_makes_a_program_dynamic() {
        let parsed = ElfProgram::parse(&program(183, &[1, 2])).unwrap();
        assert_eq!((parsed.is_dynamic, parsed.machine_name().as_str()), (false, "aarch64"));
        assert!(ElfProgram::parse(&program(62, &[1, 3])).unwrap().is_dynamic);
        assert_eq!(ElfProgram::parse(&program(999, &[])).unwrap().machine_name(), "machine 999");
    }

    #[test]
    fn other_files_are_not_programs() {
        let mut object = program(62, &[1]);
        object[16] = 1;
        for bytes in [&object[..], b"#!/bin/sh\n", b"", b"\x7fELF", &program(62, &[1])[..80]] {
            assert_eq!(ElfProgram::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_running_program_is_one() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        assert!(ElfProgram::parse(&bytes[..HEAD]).is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(mut bytes: Vec<u8>, machine: u16) {
            ElfProgram::parse(&bytes);
            bytes.splice(0..0, program(machine, &[1, 2, 3]).into_iter().take(60));
            ElfProgram::parse(&bytes);
        }
    }
}
