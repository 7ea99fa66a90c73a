//! The environment of a command in a container: that of its engine's record or of its init, and the
//! variables that were asked for; the paths to try for a command, and the shells. Bytes in, bytes out.

use std::collections::HashMap;

use super::exec_plan::ExecPlan;
use super::user::Identity;

/// PATH for a container without one, as in Docker.
pub const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Shells that run no command: those of accounts without a login (nologin(8), passwd(5) of Debian).
const NO_SHELLS: &[&[u8]] = &[b"nologin", b"false", b"true", b"sync", b"halt", b"shutdown"];

/// The shell of every container that has one.
const SHELL: &[u8] = b"/bin/sh";

/// Variables by name: each once, in the order of their first appearance.
#[derive(Default)]
struct Variables {
    values: Vec<Vec<u8>>,
    /// Index by name with its `=`.
    index: HashMap<Vec<u8>, usize>,
}

impl Variables {
    /// Sets `NAME=VALUE`; anything without a name or a `=` is left out.
    fn set(&mut self, variable: &[u8], overwrite: bool) {
        let end = variable.iter().position(|b| *b == b'=').filter(|end| *end > 0);
        let Some(end) = end else { return };
        match self.index.get(&variable[..=end]) {
            Some(known) if overwrite => self.values[*known] = variable.to_owned(),
            Some(_) => {}
            None => {
                self.index.insert(variable[..=end].to_owned(), self.values.len());
                self.values.push(variable.to_owned());
            }
        }
    }

    fn unset(&mut self, name: &[u8]) {
        if let Some(index) = self.index.remove(&[name, b"="].concat()) {
            self.values[index].clear();
        }
    }

    fn into_values(self) -> Vec<Vec<u8>> {
        self.values.into_iter().filter(|variable| !variable.is_empty()).collect()
    }
}

/// Returns the command's environment: the recorded one, or else the target's as it was at its start (each
/// name once, the last value wins; entries without `=` are left out), then HOME, TERM, and the variables that
/// were asked for; of these, a name without `=` removes the variable.
pub fn environment(plan: &ExecPlan, target: &[u8], identity: &Identity) -> Vec<Vec<u8>> {
    let mut variables = Variables::default();
    match &plan.base_environment {
        Some(base) => base.iter().for_each(|variable| variables.set(variable, true)),
        None => salvage(target).0.iter().for_each(|variable| variables.set(variable, true)),
    }
    plan.recorded_variables.iter().for_each(|variable| variables.set(variable, true));
    let with = |name: &[u8], value: &[u8]| [name, b"=", value].concat();
    if plan.in_container_root {
        variables.set(&with(b"PATH", PATH), false);
        let home = identity.home.as_deref().filter(|home| !home.contains(&b'\n'));
        variables.set(&with(b"HOME", home.unwrap_or(b"/")), plan.user.is_some());
    }
    if let Some(term) = &plan.term {
        variables.set(&with(b"TERM", term), true);
    }
    for variable in &plan.variables {
        match variable.contains(&b'=') {
            true => variables.set(variable, true),
            false => variables.unset(variable),
        }
    }
    variables.into_values()
}

/// Returns the intact variables in `/proc/PID/environ`, and whether all are. A process that sets its title
/// writes over its arguments and on over its environment (setproctitle(3)): that leaves strings without a
/// name, or empty ones. The string that follows such a one may be the end of a variable, and is left out.
pub fn salvage(environ: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let is_damaged =
        |variable: &[u8]| variable.iter().position(|b| *b == b'=').is_none_or(|n| n == 0);
    let environ = environ.strip_suffix(b"\0").unwrap_or(environ);
    if environ.is_empty() {
        return (Vec::new(), true);
    }
    let (mut variables, mut is_intact, mut follows_damage) = (Vec::new(), true, false);
    for variable in environ.split(|b| *b == 0) {
        if is_damaged(variable) {
            (is_intact, follows_damage) = (false, true);
        } else if std::mem::take(&mut follows_damage) {
            continue;
        } else {
            variables.push(variable.to_owned());
        }
    }
    (variables, is_intact)
}

/// Returns the paths to try for a command: itself if it has a slash, else one for each directory of PATH; none
/// for an empty one.
pub fn candidates(command: &[u8], environment: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if command.is_empty() {
        return Vec::new();
    }
    if command.contains(&b'/') {
        return vec![command.to_owned()];
    }
    let path = environment.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    path.unwrap_or(PATH)
        .split(|b| *b == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| [directory, b"/", command].concat())
        .collect()
}

/// Returns the shells to try for a user with this login shell, and whether that one is passed over because
/// it runs no command.
pub fn shells(login_shell: Option<&[u8]>) -> (Vec<Vec<u8>>, bool) {
    let Some(shell) = login_shell.filter(|shell| *shell != SHELL) else {
        return (vec![SHELL.to_owned()], false);
    };
    let name = shell.rsplit(|b| *b == b'/').next().unwrap_or_default();
    match NO_SHELLS.contains(&name) {
        true => (vec![SHELL.to_owned()], true),
        false => (vec![shell.to_owned(), SHELL.to_owned()], false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::user::{Ids, UserSpec};

    fn identity(home: Option<&[u8]>) -> Identity {
        Identity { ids: Ids::default(), home: home.map(<[u8]>::to_owned), shell: None }
    }

    fn texts(values: &[Vec<u8>]) -> Vec<String> {
        values.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    fn plan() -> ExecPlan {
        ExecPlan { in_container_root: true, ..ExecPlan::default() }
    }

    #[test]
    fn environment_starts_from_the_targets() {
        let target = b"A=1\0PATH=/evil\0A=2\0N=a\nb\0";
        let variables = environment(&plan(), target, &identity(Some(b"/root")));
        assert_eq!(texts(&variables), ["A=2", "PATH=/evil", "N=a\nb", "HOME=/root"]);
        let with_user = ExecPlan {
            user: UserSpec::parse(b"5").ok(),
            variables: vec![b"A=".to_vec(), b"B=3".to_vec()],
            term: Some(b"xterm".to_vec()),
            ..plan()
        };
        let variables = environment(&with_user, b"HOME=/root\0A=1\0", &identity(Some(b"/a\nb")));
        let path = format!("PATH={}", String::from_utf8_lossy(PATH));
        assert_eq!(texts(&variables), ["HOME=/", "A=", path.as_str(), "TERM=xterm", "B=3"]);
    }

    #[test]
    fn a_name_without_a_value_removes_the_variable() {
        let without = ExecPlan { variables: vec![b"A".to_vec(), b"C".to_vec()], ..plan() };
        let variables = environment(&without, b"A=1\0AB=2\0PATH=/a\0HOME=/\0", &identity(None));
        assert_eq!(texts(&variables), ["AB=2", "PATH=/a", "HOME=/"]);
    }

    #[test]
    fn an_overwritten_environment_is_noticed() {
        for (environ, intact, is_intact) in [
            ("A=1\0B=\0", &["A=1", "B="][..], true),
            ("", &[], true),
            ("A=1", &["A=1"], true),
            ("xxxxxxxxx", &[], false),
            ("\0\0\0\0", &[], false),
            ("\0\0\0A=1\0B=2\0", &["B=2"], false),
            // The rest of `PATH=…` after a title of three bytes.
            ("abc\0=/bin\0B=1\0C=2\0", &["C=2"], false),
            ("ab\0H=/bin\0B=1\0", &["B=1"], false),
            ("A=1\0NOEQ\0B=2\0C=3\0", &["A=1", "C=3"], false),
        ] {
            let (variables, found) = salvage(environ.as_bytes());
            assert_eq!(
                (texts(&variables), found),
                (intact.iter().map(|s| (*s).into()).collect(), is_intact),
                "{environ:?}"
            );
        }
    }

    #[test]
    fn candidates_follow_path_unless_there_is_a_slash() {
        let path = [b"PATH=/a::relative:/b".to_vec()];
        assert_eq!(texts(&candidates(b"ls", &path)), ["/a/ls", "/b/ls"]);
        assert_eq!(texts(&candidates(b"./ls", &path)), ["./ls"]);
        assert_eq!(candidates(b"ls", &[]).len(), 6);
        assert_eq!(candidates(b"", &path), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn an_account_without_login_gets_sh() {
        for (shell, tried, is_passed_over) in [
            (None, &["/bin/sh"][..], false),
            (Some("/bin/sh"), &["/bin/sh"], false),
            (Some("/bin/bash"), &["/bin/bash", "/bin/sh"], false),
            (Some("/usr/sbin/nologin"), &["/bin/sh"], true),
            (Some("/bin/false"), &["/bin/sh"], true),
        ] {
            let (shells, passed_over) = shells(shell.map(str::as_bytes));
            assert_eq!(
                (texts(&shells), passed_over),
                (tried.iter().map(|s| (*s).into()).collect(), is_passed_over)
            );
        }
    }
}
