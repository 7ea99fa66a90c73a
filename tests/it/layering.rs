//! The structure of the source, read with syn: imports point downward and never in a circle, each file
//! is known, types have names of their own, and files and functions stay within their limits.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use libtest_mimic::Trial;
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use self::source::{FileFacts, SourceFile, facts_of, is_test, module_of, rust_files, source};
use crate::support::{Outcome, check, repository, test};

/// The floors from top to bottom; imports within a floor are allowed as long as they make no circle.
const FLOORS: &[&[&str]] = &[
    &["cli", "command", "completion", "manual"],
    &["resolve", "action", "output"],
    &["engine"],
    &["analysis", "proc"],
    &["error", "exit"],
    &["model", "sys"],
];

/// Lines of a source file, with its tests.
const FILE_LINES: usize = 500;
/// Lines of a function.
const FUNCTION_LINES: usize = 60;
/// Lines of a command's `run`.
const RUN_LINES: usize = 40;

/// Files of `tests/it` without tests of their own.
const TEST_HELPERS: &[&str] = &["descendants", "main", "support", "terminal", "world"];

pub fn trials() -> Vec<Trial> {
    vec![
        test("layering::imports_point_downward", imports_point_downward),
        test("layering::imports_make_no_circle", imports_make_no_circle),
        test("layering::circles_are_seen", circles_are_seen),
        test("layering::every_file_is_a_module_on_a_floor", every_file_is_known),
        test("layering::every_test_file_is_registered", every_test_file_is_registered),
        test("layering::no_two_types_share_a_name", type_names_are_unique),
        test("layering::only_the_engines_files_name_an_engine", engines_are_named_by_their_files),
        test("layering::files_and_functions_are_short", sizes_are_within_limits),
        test("layering::docs_of_functions_begin_with_a_verb", docs_begin_with_a_verb),
    ]
}

/// The index of the file that defines what a path names: the longest prefix that is a module, and from
/// there through `pub use`.
fn defining_file(files: &[SourceFile], path: &[String]) -> Option<usize> {
    let mut path = path.to_vec();
    // (A chain of `pub use` is shorter than this.)
    for _ in 0..8 {
        let length = (0..=path.len())
            .rev()
            .find(|length| files.iter().any(|file| file.module == path[..*length]))?;
        let index = files.iter().position(|file| file.module == path[..length])?;
        let Some(target) = path.get(length).and_then(|name| files[index].facts.reexports.get(name))
        else {
            return Some(index);
        };
        path = [&target[..], &path[length + 1..]].concat();
    }
    None
}

/// The imports between files. A module's use of its own descendants is left out: it declares them, and
/// tables of them (commands, engines) stand in it.
fn imports(files: &[SourceFile]) -> Vec<BTreeSet<usize>> {
    let targets = |(index, file): (usize, &SourceFile)| {
        let defined = file.facts.paths.iter().filter_map(|path| defining_file(files, path));
        defined
            .filter(|target| *target != index && !files[*target].module.starts_with(&file.module))
            .collect()
    };
    files.iter().enumerate().map(targets).collect()
}

fn floor(module: &[String]) -> Option<usize> {
    let name = module.first()?;
    FLOORS.iter().position(|modules| modules.contains(&name.as_str()))
}

fn imports_point_downward() -> Outcome {
    let files = source()?;
    let mut wrong = Vec::new();
    for (file, targets) in files.iter().zip(imports(&files)) {
        for target in targets.into_iter().map(|target| &files[target]) {
            let upward = floor(&file.module).zip(floor(&target.module)).is_some_and(|(f, t)| t < f);
            let unnamed = target.module.is_empty() && !file.module.is_empty();
            if upward || unnamed {
                wrong.push(format!("{} imports {}", file.path.display(), target.path.display()));
            }
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

/// The circles of a graph: each strongly connected set of more than one node.
fn circles(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let reachable = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(node) = next.pop() {
            next.extend(edges[node].iter().filter(|target| seen.insert(**target)));
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..edges.len()).map(reachable).collect();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for node in 0..edges.len() {
        let circle: Vec<usize> =
            reached[node].iter().copied().filter(|other| reached[*other].contains(&node)).collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn imports_make_no_circle() -> Outcome {
    let files = source()?;
    let edges = imports(&files);
    let text: Vec<String> = circles(&edges)
        .iter()
        .map(|circle| {
            let within = circle.iter().flat_map(|node| {
                edges[*node].iter().filter(|target| circle.contains(target)).map(|target| {
                    format!("{} → {}", files[*node].path.display(), files[*target].path.display())
                })
            });
            within.collect::<Vec<_>>().join("\n")
        })
        .collect();
    check(text.is_empty(), text.join("\n\n"))
}

/// The other tests of this file pass on a clean tree: this one shows that they can fail.
fn circles_are_seen() -> Outcome {
    let file = |path: &str, text: &str| {
        let module = module_of(Path::new(path));
        let facts = facts_of(module.clone(), text).expect("Rust");
        SourceFile { path: path.into(), module, lines: 1, facts }
    };
    let files = [
        file("lib.rs", "mod engine; mod model;"),
        file("engine/mod.rs", "mod a; mod b; pub use a::A; static TABLE: &[A] = &[b::B];"),
        file("engine/a.rs", "pub struct A; fn f() { vec![super::b::g()]; }"),
        file("engine/b.rs", "use super::A; pub const B: A = A; pub fn g() {}"),
        file("model/mod.rs", "#[cfg(test)] mod tests { use crate::engine::A; }"),
    ];
    let edges = imports(&files);
    check(edges[1].is_empty(), "a module's own children count")?;
    check(edges[2] == BTreeSet::from([3]), "super:: in a macro is not seen")?;
    check(edges[3] == BTreeSet::from([2]), "a re-export is not followed")?;
    check(edges[4].is_empty(), "tests count")?;
    check(circles(&edges) == [[2, 3]], format!("{:?}", circles(&edges)))
}

fn every_file_is_known() -> Outcome {
    let files = source()?;
    let mut wrong = Vec::new();
    for file in &files {
        let Some((name, parent)) = file.module.split_last() else { continue };
        let declared = files.iter().any(|other| {
            other.module == parent && other.facts.children.iter().any(|child| child == name)
        });
        if !declared {
            wrong.push(format!("{} belongs to no module", file.path.display()));
        }
        if floor(&file.module).is_none() {
            wrong.push(format!("{} is on no floor", file.path.display()));
        }
    }
    for name in FLOORS.iter().copied().flatten() {
        if !files.iter().any(|file| file.module == [*name]) {
            wrong.push(format!("no module {name}"));
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

fn every_test_file_is_registered() -> Outcome {
    let root = repository().join("tests/it");
    let main = std::fs::read_to_string(root.join("main.rs"))?;
    let facts = facts_of(Vec::new(), &main)?;
    let mut wrong = Vec::new();
    for path in rust_files(&root) {
        let module = module_of(path.strip_prefix(&root)?);
        match &module[..] {
            [] => {}
            [name] => {
                if !facts.children.contains(name) {
                    wrong.push(format!("{name} is not a module of tests/it/main.rs"));
                }
                let registered = main.contains(&format!("{name}::trials()"));
                if !registered && !TEST_HELPERS.contains(&name.as_str()) {
                    wrong.push(format!("the trials of {name} are not run"));
                }
            }
            [parent, name, ..] => {
                let text = std::fs::read_to_string(root.join(parent).join("mod.rs"))
                    .or_else(|_| std::fs::read_to_string(root.join(parent).with_extension("rs")))?;
                if !facts_of(vec![parent.clone()], &text)?.children.contains(name) {
                    wrong.push(format!("{} belongs to no module", path.display()));
                }
            }
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

fn type_names_are_unique() -> Outcome {
    let files = source()?;
    let mut known: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in &files {
        for name in &file.facts.types {
            if let Some(other) = known.insert(name, &file.path) {
                wrong.push(format!("{name}: {} and {}", other.display(), file.path.display()));
            }
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

fn sizes_are_within_limits() -> Outcome {
    let mut wrong = Vec::new();
    for file in source()? {
        let path = file.path.display();
        if file.lines > FILE_LINES {
            wrong.push(format!("{path} has {} lines", file.lines));
        }
        let is_command = file.module.first().is_some_and(|module| module == "command");
        for (name, lines) in &file.facts.functions {
            let limit = if is_command && name == "run" { RUN_LINES } else { FUNCTION_LINES };
            if *lines > limit {
                wrong.push(format!("{path}: {name} has {lines} lines"));
            }
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Lists the functions whose documentation does not begin like a verb: with a capital, and `s` at its end.
fn without_verb(facts: &FileFacts) -> impl Iterator<Item = &str> {
    let is_verb = |word: &str| {
        let word = word.trim_end_matches(',');
        word == "Whether" || word.starts_with(char::is_uppercase) && word.ends_with('s')
    };
    facts.documented.iter().filter(move |(_, word)| !is_verb(word)).map(|(name, _)| name.as_str())
}

fn docs_begin_with_a_verb() -> Outcome {
    let text = "/// The host.\nfn a() {} /// Reads, and\nfn b() {} trait T { /// Whom\nfn c(); }";
    let example = facts_of(Vec::new(), text)?;
    let seen: Vec<&str> = without_verb(&example).collect();
    check(seen == ["a", "c"], format!("{seen:?} are seen in the example"))?;
    let mut wrong = Vec::new();
    for file in source()? {
        let path = file.path.display();
        wrong.extend(without_verb(&file.facts).map(|name| format!("{path}: {name}")));
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Collects the places in which a file names an engine. Comments and tests do not count, nor does a
/// text that mentions an engine, such as an example in the help.
struct EngineNames<'a> {
    engines: &'a [String],
    found: Vec<String>,
}

impl EngineNames<'_> {
    /// An identifier, in any case: `docker::`, `Docker`, `DOCKER`.
    fn identifier(&mut self, identifier: &str) {
        if self.engines.contains(&identifier.to_lowercase()) {
            self.found.push(identifier.to_owned());
        }
    }

    /// A string that is an engine's name or socket, or that quotes a command of the engine.
    fn string(&mut self, literal: &str) {
        // (In a macro it still has its quotes.)
        let text = literal.trim_start_matches('b').trim_matches('"');
        let names = |engine: &String| {
            text == engine
                || text == format!("{engine}.sock")
                || text.contains(&format!("`{engine} "))
        };
        if self.engines.iter().any(names) {
            self.found.push(text.to_owned());
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(identifier) => self.identifier(&identifier.to_string()),
                TokenTree::Literal(literal) => self.string(&literal.to_string()),
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for EngineNames<'_> {
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_ident(&mut self, identifier: &'ast syn::Ident) {
        self.identifier(&identifier.to_string());
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.string(&literal.value());
    }

    fn visit_lit_byte_str(&mut self, literal: &'ast syn::LitByteStr) {
        self.string(&String::from_utf8_lossy(&literal.value()));
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
    }
}

fn engines_are_named_by_their_files() -> Outcome {
    let root = repository().join("src");
    let table = std::fs::read_to_string(root.join("engine/mod.rs"))?;
    // An entry of the table is `&docker::Docker,`.
    let entries = table.lines().filter_map(|line| line.trim().strip_prefix('&')?.split_once("::"));
    let engines: Vec<String> = entries.map(|(module, _)| module.to_owned()).collect();
    check(engines.len() >= 10, format!("{engines:?}"))?;
    let names_in = |text: &str| -> Result<Vec<String>, syn::Error> {
        let mut names = EngineNames { engines: &engines, found: Vec::new() };
        names.visit_file(&syn::parse_file(text)?);
        Ok(names.found)
    };
    let named =
        "/// docker\nfn f() { if x == \"docker\" { p!(Docker, \"try `docker ps`\", \"lxc: x\") } }";
    check(names_in(named)?.len() == 3, "an engine's name is not seen")?;
    let mut wrong = Vec::new();
    for path in rust_files(&root) {
        if !path.starts_with(root.join("engine")) {
            let found = names_in(&std::fs::read_to_string(&path)?)?;
            wrong.extend(found.iter().map(|name| format!("{}: {name}", path.display())));
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}
