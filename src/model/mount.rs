//! `/proc/PID/mountinfo` and `mountstats`, parsed line by line. Names in it can be chosen freely by a user who
//! mounts, and there may be 100,000 lines, so nothing is copied without need. Never reads a file and never
//! accesses a mount.

use std::borrow::Cow;

use super::bytes::decimal;

/// A mount: one line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Mount ID, as `mnt_id` of `/proc/PID/fdinfo/N`; reused after an unmount.
    pub id: u32,
    /// Mount ID of its parent; the topmost has itself or one that is not listed.
    pub parent: u32,
    /// Device, `major:minor`.
    pub device: &'a [u8],
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// Directory of the file system that is mounted.
    pub root: Cow<'a, [u8]>,
    /// Mount point, from the root of the process.
    pub point: Cow<'a, [u8]>,
    /// Type of the file system, with a subtype after a dot (`fuse.sshfs`).
    pub fstype: Cow<'a, [u8]>,
    /// Source, or any text that was given to mount(2); may be empty.
    pub source: Cow<'a, [u8]>,
    /// Options of the file system, still escaped: each file system writes its own.
    pub super_options: &'a [u8],
}

/// Iterator over the mounts of a process, in the order of the file: of two with the same mount point the
/// later hides the earlier. Lines of another form are left out.
#[derive(Clone, Debug)]
pub struct Mounts<'a> {
    rest: &'a [u8],
}

impl<'a> Mounts<'a> {
    /// Iterates over the content of the file.
    pub fn new(mountinfo: &'a [u8]) -> Self {
        Self { rest: mountinfo }
    }
}

impl<'a> Iterator for Mounts<'a> {
    type Item = Mount<'a>;

    fn next(&mut self) -> Option<Mount<'a>> {
        while !self.rest.is_empty() {
            let mut lines = self.rest.splitn(2, |b| *b == b'\n');
            let line = lines.next().unwrap_or_default();
            self.rest = lines.next().unwrap_or_default();
            if let Some(mount) = Mount::parse(line) {
                return Some(mount);
            }
        }
        None
    }
}

impl<'a> Mount<'a> {
    /// Parses a line. Fields are separated by one space each: a source may be empty. After the options
    /// of the mount come any number of optional fields, and then `-`.
    ///
    /// ```text
    /// 36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue
    /// ```
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ');
        let id = decimal(fields.next()?)?;
        let parent = decimal(fields.next()?)?;
        let device = fields.next()?;
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let read_only = fields.next()?.split(|b| *b == b',').any(|option| option == b"ro");
        fields.find(|field| *field == b"-")?;
        let fstype = unescape(fields.next()?);
        let source = unescape(fields.next()?);
        // The last field is the rest of the line: not every file system escapes its spaces.
        let options = fields.next()?;
        let after: usize = fields.map(|field| field.len() + 1).sum();
        let super_options = &line[line.len() - after - options.len()..];
        Some(Self { id, parent, device, read_only, root, point, fstype, source, super_options })
    }
}

/// Returns the point and the type of each mount in `mountstats`, which the kernel writes in a third of the time
/// that `mountinfo` takes (`show_vfsstat`, fs/proc_namespace.c). NFS adds lines of its own, which are left out.
///
/// ```text
/// device overlay mounted on /mnt\0402 with fstype overlay
/// no device mounted on /run with fstype nfs4 statvers=1.1
/// ```
pub fn mounted_types(mountstats: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    mountstats.split(|b| *b == b'\n').filter_map(|line| {
        // A device has no space in it, but may be empty.
        let device = line.strip_prefix(b"device ").map(|rest| rest.splitn(2, |b| *b == b' '));
        let rest = match device {
            Some(mut fields) => fields.nth(1)?,
            None => line.strip_prefix(b"no device ")?,
        };
        let mut fields = rest.strip_prefix(b"mounted on ")?.split(|b| *b == b' ');
        let point = fields.next()?;
        let is_type = fields.next() == Some(b"with") && fields.next() == Some(b"fstype");
        is_type.then_some(())?;
        Some((unescape(point), unescape(fields.next()?)))
    })
}

/// Decodes the kernel's `\ooo` for space, tab, newline, backslash and `#` (`mangle`,
/// fs/proc_namespace.c). A backslash before anything else stands for itself.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = field.iter().position(|b| *b == b'\\') else {
        return Cow::Borrowed(field);
    };
    let mut plain = Vec::with_capacity(field.len());
    plain.extend_from_slice(&field[..first]);
    let mut rest = &field[first..];
    while let Some((byte, after)) = rest.split_first() {
        match *rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &rest[4..];
            }
            _ => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mountstats_has_the_point_and_the_type_of_each_mount() {
        let stats = b"device overlay mounted on /mnt\\0402 with fstype overlay\n\
            device  mounted on / with fstype ext4\n\
            no device mounted on /a with fstype fuse.sshfs\n\
            device host:/x mounted on /nfs with fstype nfs4 statvers=1.1\n\
            \topts:\trw,vers=4.2 mounted on /b with fstype nfs\n\
            device cut mounted on /c with\n";
        let found: Vec<_> = mounted_types(stats).map(|(p, t)| (p.to_vec(), t.to_vec())).collect();
        let expected =
            [("/mnt 2", "overlay"), ("/", "ext4"), ("/a", "fuse.sshfs"), ("/nfs", "nfs4")];
        assert_eq!(found, expected.map(|(p, t)| (p.as_bytes().to_vec(), t.as_bytes().to_vec())));
    }

    #[test]
    fn mountstats_and_mountinfo_agree() {
        let read = |name: &str| std::fs::read(format!("/proc/self/{name}")).unwrap();
        // The mounts may change meanwhile.
        let agree = || {
            let (info, stats) = (read("mountinfo"), read("mountstats"));
            let of_stats: Vec<_> = mounted_types(&stats).collect();
            let of_info: Vec<_> = Mounts::new(&info).map(|m| (m.point, m.fstype)).collect();
            of_stats == of_info
        };
        assert!((0..100).any(|_| agree()));
    }

    fn single(line: &[u8]) -> Mount<'_> {
        let mut mounts = Mounts::new(line);
        let mount = mounts.next().unwrap();
        assert_eq!(mounts.next(), None);
        mount
    }

    #[test]
    fn parses_all_fields() {
        let mount = single(
            b"36 35 98:0 /r /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw,a=b\n",
        );
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!((&*mount.root, &*mount.point), (&b"/r"[..], &b"/mnt 2"[..]));
        assert_eq!((&*mount.fstype, &*mount.source), (&b"ext3"[..], &b"/dev/root"[..]));
        assert_eq!(mount.super_options, b"rw,a=b");
    }

    #[test]
    fn borrows_names_without_escapes() {
        let mount = single(b"22 27 0:21 / /proc rw - proc proc rw");
        assert!(matches!(mount.point, Cow::Borrowed(_)));
    }

    #[test]
    fn unescapes_strange_names() {
        let mount = single(b"1 1 0:1 / /a\\011\\012\\134x\\9\\\xff - - tmpfs  rw,x= y - z\n");
        assert_eq!(&*mount.point, b"/a\t\n\\x\\9\\\xff");
        assert_eq!((&*mount.fstype, &*mount.source), (&b"tmpfs"[..], &b""[..]));
        assert_eq!(mount.super_options, b"rw,x= y - z");
        let mount = single(b"1 1 0:1 / /- rw - fuse.ssh\\040fs \\043none rw");
        assert_eq!((&*mount.fstype, &*mount.source), (&b"fuse.ssh fs"[..], &b"#none"[..]));
    }

    #[test]
    fn leaves_out_lines_of_another_form() {
        let bytes = b"\n1\n1 2 3 4 5 6\n1 2 3 4 5 6 - ext4 /dev\n-1 2 3 / / rw - a b c\n\
            7 1 0:1 / /x rw - a b c";
        assert_eq!(Mounts::new(bytes).map(|mount| mount.id).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn parses_a_hundred_thousand_mounts() {
        let line =
            b"36 35 98:0 / /mnt/a\\040b rw,noatime shared:7 - overlay overlay rw,lowerdir=/a:/b\n";
        assert_eq!(Mounts::new(&line.repeat(100_000)).count(), 100_000);
    }

    fn escape(name: &[u8]) -> Vec<u8> {
        let escaped = |b: &u8| match b {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{b:03o}").into_bytes(),
            _ => vec![*b],
        };
        name.iter().flat_map(escaped).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>, text in "[0-9 /\\\\a\n-]{0,80}") {
            let _ = (Mounts::new(&bytes).count(), unescape(&bytes).len());
            let _ = Mounts::new(text.as_bytes()).count();
        }

        #[test]
        fn escaped_names_are_parsed_back(point: Vec<u8>, source: Vec<u8>) {
            let mut line = b"1 2 0:3 / ".to_vec();
            line.extend(escape(&point));
            line.extend(b" rw shared:1 - tmpfs ");
            line.extend(escape(&source));
            line.extend(b" rw\n");
            let mount = single(&line);
            prop_assert_eq!((&*mount.point, &*mount.source), (&point[..], &source[..]));
            prop_assert_eq!(mount.super_options, b"rw");
        }
    }
}
