//! The manual: a page for the tool and one for each command, made from the same table as the help.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{COMMANDS, Example};
use crate::cli::cli;
use crate::error::Exit;

/// Where containers are looked for.
const FILES: &[(&str, &str)] = &[
    ("/proc, /sys/fs/cgroup", "What the kernel says; the last word on everything."),
    (
        "/var/lib/docker/containers/*/config.v2.json",
        "Docker, and the data root its daemon was given.",
    ),
    (
        "/var/lib/containers/storage, /run/containers/storage",
        "Podman and CRI-O; ~/.local/share/containers/storage for those of users.",
    ),
    ("/run/containerd/io.containerd.runtime.v2.task", "containerd: ctr, nerdctl, Kubernetes."),
    (
        "/run/runc, /run/crun, /run/youki",
        "The OCI runtimes by themselves; $XDG_RUNTIME_DIR for those of users.",
    ),
    ("/var/lib/lxc, /run/incus, /var/log/lxd", "LXC, Incus and LXD."),
    ("/run/systemd/machines", "systemd-nspawn."),
];

/// File name and content of each page.
///
/// # Errors
/// Those of writing into memory, which do not happen.
pub fn manual() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = cli();
    root.build();
    let overview: Vec<Example> = super::overview();
    let mut pages = vec![("cinspect.1".to_owned(), page(root.clone(), "cinspect", &overview)?)];
    for command in COMMANDS {
        let name = format!("cinspect-{}", command.name);
        let found = root.get_subcommands().find(|known| known.get_name() == command.name);
        let Some(found) = found else { continue };
        let clap = found.clone().display_name(&name);
        pages.push((format!("{name}.1"), page(clap, &name, command.examples)?));
    }
    Ok(pages)
}

fn page(clap: clap::Command, name: &str, examples: &[Example]) -> io::Result<Vec<u8>> {
    // The examples have a section of their own here.
    let clap = clap.after_help("").after_long_help("").help_template("");
    let man = Man::new(clap).title(name).section("1").manual("cinspect");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if name == "cinspect" {
        man.render_subcommands_section(&mut out)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXAMPLES"]);
    for (line, what) in examples {
        rest.control("TP", []);
        rest.text([bold(*line)]);
        rest.text([roman(*what)]);
    }
    if name == "cinspect-cp" {
        list(&mut rest, "WHERE IT GOES", &crate::analysis::transfer::rules());
    }
    let statuses: Vec<(String, &str)> =
        Exit::ALL.iter().map(|(exit, means)| (exit.0.to_string(), *means)).collect();
    list(&mut rest, "EXIT STATUS", &statuses);
    if name == "cinspect" {
        list(&mut rest, "FILES", FILES);
    }
    rest.control("SH", ["SEE ALSO"]);
    let mut others: Vec<String> = COMMANDS
        .iter()
        .map(|command| format!("cinspect-{}", command.name))
        .chain(["cinspect".to_owned()])
        .filter(|other| other != name)
        .map(|other| format!("{other}(1)"))
        .collect();
    others.sort();
    others
        .extend(["signal(7)", "pid_namespaces(7)", "cgroups(7)", "nsenter(1)"].map(str::to_owned));
    rest.text([roman(others.join(", "))]);
    rest.to_writer(&mut out)?;
    Ok(out)
}

fn list<T: AsRef<str>>(roff: &mut Roff, title: &str, items: &[(T, &str)]) {
    roff.control("SH", [title]);
    for (term, what) in items {
        roff.control("TP", []);
        roff.text([bold(term.as_ref())]);
        roff.text([roman(*what)]);
    }
}
