//! The account of a copy: each attribute that `cp` claims to carry is lost once, by directory and by
//! stream. Its loss is a warning, and with `--strict` an error.

use super::*;

pub fn trials() -> Vec<Trial> {
    let archivers = |name, run: fn() -> Outcome| test_with(Need::Archivers, name, run);
    vec![
        archivers("cp::every_lost_attribute_is_in_the_account", lost_attributes),
        archivers("cp::values_that_a_stream_gets_wrong_are_told", invalid_records),
        archivers("cp::verbose_lists_what_warnings_summarise", verbose),
        test_with(Need::Strace, "cp::an_attribute_counts_as_kept_when_it_was_read_back", refused),
    ]
}

/// Runs a line with and without `--strict` as `$S`: with these words it warns, and fails.
fn deviates(container: &Container, line: &str, words: &str) -> Outcome {
    let clean = "rm -rf $R/mnt/r/*;";
    let warned = shell(container, &format!("{clean} S=; {line}"))
        .expect(0)
        .map_err(|error| format!("{line}: {}", error.message().unwrap_or_default()))?;
    check(warned.err.contains(words), format!("{line}: no `{words}` in {}", warned.err))?;
    let strict = shell(container, &format!("{clean} S=--strict; {line}")).expect(1)?;
    check(strict.err.contains("cannot copy everything: "), format!("{line}: {}", strict.err))?;
    check(strict.err.contains(words), format!("{line}: no `{words}` in {}", strict.err))
}

fn lost_attributes() -> Outcome {
    let container = container()?;
    // A ramfs has neither extended attributes nor lists; a/ and b/ have no links between each other.
    within(
        &container,
        "cd /mnt; mkdir r o s t; mount -t ramfs none r; mkdir o/a o/b; mount -t tmpfs none o/a; mount -t tmpfs none o/b
         mkdir s/xattr s/acl s/default s/cap s/label s/fifo s/device s/links s/dangling s/loop s/pseudo s/socket
         echo x >s/xattr/f; setfattr -n trusted.x -v y s/xattr/f; echo x >s/acl/f; setfacl -m u:1:rw s/acl/f
         mkdir s/default/d; setfacl -d -m u:1:rw s/default/d; cp /bin/true s/cap/f; setcap cap_net_raw+ep s/cap/f
         echo x >s/label/f; setfattr -n security.selinux -v label s/label/f; mkfifo s/fifo/f; mknod s/device/f c 1 3
         mkdir s/links/a s/links/b; echo x >s/links/a/f; ln s/links/a/f s/links/b/f
         ln -s nowhere s/dangling/f; ln -s . s/loop/f; mkdir s/pseudo/f; mount -t proc none s/pseudo/f
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/mnt/s/socket/f\")'
         mkdir e; echo old >e/f; touch e/m; mount --bind e/f e/m",
    )?;
    for (source, options, words) in [
        ("xattr", "-a", "cannot keep its extended attribute `trusted.x`"),
        ("acl", "-a", "cannot keep its access control list"),
        ("default", "-a", "cannot keep its access control list"),
        ("cap", "-a", "cannot keep its file capabilities"),
        ("label", "-a", "cannot keep its security label `security.selinux`"),
        ("fifo", "", "it is a FIFO"),
        ("device", "", "it is a device"),
        ("socket", "", "it is a socket"),
        ("dangling", "-L", "dangling symlink"),
        ("loop", "-L", "leads back to a directory above it"),
        ("pseudo", "", "it is a proc file system"),
    ] {
        let directory = format!("$C cp {options} $S $CTR:/mnt/s/{source}/. $CTR:/mnt/r");
        deviates(&container, &directory, words)?;
        // The other way of the stream is where the loss is: the second for what a ramfs cannot hold.
        let (write, read) = if options == "-a" { ("", "$S") } else { ("$S", "") };
        let stream = format!(
            "$C cp {options} {write} $CTR:/mnt/s/{source}/. - | $C cp {options} {read} - $CTR:/mnt/r"
        );
        let stream = stream.replace("cp -L  -", "cp -");
        deviates(&container, &stream, words)?;
    }
    for line in [
        "$C cp $S $CTR:/mnt/s/links/. $CTR:/mnt/o",
        "$C cp $CTR:/mnt/s/links/. - | $C cp $S - $CTR:/mnt/o",
    ] {
        deviates(&container, line, "cannot keep its hard link")?;
        within(&container, "[ \"$(cat /mnt/o/a/f /mnt/o/b/f)\" = \"$(printf 'x\\nx')\" ]")?;
    }
    for (line, words) in [
        ("$C cp -n $S $CTR:/mnt/s/xattr/f $CTR:/mnt/e/f", "exists: not overwritten"),
        ("tar -C $R/mnt/s/xattr -c f | $C cp -n $S - $CTR:/mnt/e", "exists: not overwritten"),
        ("$C cp $S $CTR:/mnt/s/xattr/f $CTR:/mnt/e/m", "overwritten in place"),
        (
            "cp $R/mnt/e/m $R/mnt/t/m; tar -C $R/mnt/t -c m | $C cp $S - $CTR:/mnt/e",
            "overwritten in place",
        ),
    ] {
        deviates(&container, line, words)?;
    }
    // A list that is lost does not widen the rights of the group.
    let line = "$C cp -a $CTR:/mnt/s/acl/f $CTR:/mnt/r/1; $C cp -a $CTR:/mnt/s/acl/f - | $C cp -a - $CTR:/mnt/r; stat -c %a $R/mnt/s/acl/f $R/mnt/r/1 $R/mnt/r/f";
    check(
        shell(&container, line).expect(0)?.out.ends_with("664\n644\n644\n"),
        "rights of the group",
    )
}

fn invalid_records() -> Outcome {
    let container = container()?;
    within(&container, "mkdir /mnt/r")?;
    for (records, words) in [
        ("'mtime': 'nan'", "ignored the invalid PAX record `mtime=nan`"),
        ("'uid': '4294967296'", "ignored the invalid PAX record `uid=4294967296`"),
        ("'gid': '-1'", "ignored the invalid PAX record `gid=-1`"),
        ("'atime': '1e3'", "ignored the invalid PAX record `atime=1e3`"),
        (
            "'SCHILY.acl.access': 'user::rw-,user:nobody-here:rw-,group::r--,mask::rw-,other::r--'",
            "access control list",
        ),
        ("'SCHILY.acl.access': 'nonsense'", "access control list"),
        ("'SCHILY.acl.default': 'nonsense'", "access control list"),
        ("'SCHILY.acl.ace': 'owner@:rwx::allow'", "access control list"),
        ("'SCHILY.xattr.system.posix_acl_access': 'x'", "access control list"),
        ("'SCHILY.xattr.security.capability': 'x'", "file capabilities"),
        ("'SCHILY.xattr.user': 'x'", "extended attribute `user`"),
        ("'LIBARCHIVE.xattr.trusted.x': '!'", "extended attribute `trusted.x`"),
        (
            "'RHT.security.selinux': 'system_u:object_r:etc_t:s0'",
            "security label `security.selinux`",
        ),
        ("'SCHILY.fflags': 'immutable'", "file flags `immutable`"),
    ] {
        let line = format!(
            "python3 -c \"import tarfile,sys
t=tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)
i=tarfile.TarInfo('f'); i.mode=0o664; i.pax_headers={{{records}}}; t.addfile(i); t.close()\" | $C cp -a $S - $CTR:/mnt/r; status=$?; stat -c %a $R/mnt/r/f; exit $status"
        );
        deviates(&container, &line, words)?;
        if records.contains("acl.access") || records.contains("acl_access") {
            let mode = shell(&container, &format!("S=; {line}")).expect(0)?.out;
            check(
                mode.ends_with("644\n") || mode.ends_with("604\n"),
                format!("{records}: {mode}"),
            )?;
        }
    }
    // A size that is none leaves no way to go on.
    let line = "python3 -c \"import tarfile,sys
t=tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)
i=tarfile.TarInfo('f'); i.pax_headers={'size': '-1'}; t.addfile(i); t.close()\" | $C cp - $CTR:/mnt/r";
    let failed = shell(&container, line).expect(1)?;
    check(failed.err.contains("a PAX record `size` is not a size"), failed.err)
}

fn verbose() -> Outcome {
    let container = container()?;
    within(&container, "mkdir /mnt/s /mnt/r; for n in 1 2 3; do mkfifo /mnt/s/$n; done")?;
    let line = "$C cp $S $CTR:/mnt/s/. $CTR:/mnt/r";
    let short = shell(&container, line).expect(0)?.err;
    same(short.matches("it is a FIFO").count(), 1)?;
    check(short.contains("warning: 2 more: a FIFO skipped (`-v` lists them)"), &short)?;
    let long = shell(&container, &line.replace("cp", "cp -v")).expect(0)?.err;
    same(long.matches("it is a FIFO").count(), 3)?;
    check(!long.contains("more"), &long)?;
    same(shell(&container, &line.replace("cp", "cp -q")).expect(0)?.err.as_str(), "")
}

/// The kernel is made to refuse, or to do nothing and say that it did.
fn refused() -> Outcome {
    let container = container()?;
    within(
        &container,
        "mkdir /mnt/s /mnt/r; echo x >/mnt/s/f; chown 1:2 /mnt/s/f; chmod 640 /mnt/s/f; touch -d @1000.5 /mnt/s/f; ln -s x /mnt/s/l; chown -h 3:4 /mnt/s/l; touch -h -d @2000 /mnt/s/l",
    )?;
    for (calls, words) in [
        ("fchown,fchownat", "cannot keep its owner"),
        ("fchmod", "cannot keep its permissions"),
        ("utimensat", "cannot keep its times"),
    ] {
        for injected in ["error=EPERM", "retval=0"] {
            let traced = format!("strace -f -qq -o /dev/null -e inject={calls}:{injected}");
            let directory = format!("{traced} $C cp -a $S $CTR:/mnt/s/. $CTR:/mnt/r");
            let stream = format!("$C cp -a $CTR:/mnt/s/. - | {traced} $C cp -a $S - $CTR:/mnt/r");
            for line in [directory, stream] {
                deviates(&container, &line, words)?;
            }
        }
    }
    Ok(())
}
