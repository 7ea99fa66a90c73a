//! The source files, and the facts of each that syn sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::support::repository;

/// A module path, such as `["engine", "docker"]`; empty for `lib.rs`.
pub type ModulePath = Vec<String>;

/// One source file.
pub struct SourceFile {
    pub path: PathBuf,
    pub module: ModulePath,
    pub lines: usize,
    pub facts: FileFacts,
}

/// The facts of one file that the tests are about; test modules are left out.
#[derive(Default)]
pub struct FileFacts {
    /// Absolute paths that are imported or used, without `crate`.
    pub paths: BTreeSet<Vec<String>>,
    /// `pub use` names of this file, with the absolute path each stands for.
    pub reexports: BTreeMap<String, Vec<String>>,
    /// Child modules that are declared.
    pub children: Vec<String>,
    /// Types and traits that are defined.
    pub types: Vec<String>,
    /// Functions and their numbers of lines.
    pub functions: Vec<(String, usize)>,
    /// Functions and the first words of their documentation.
    pub documented: Vec<(String, String)>,
}

/// Collects [`FileFacts`] of the module at `module`.
struct Collector {
    module: ModulePath,
    facts: FileFacts,
}

impl Collector {
    /// Makes a path absolute. Paths of other crates and of local names give `None`.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        match segments.first()?.as_str() {
            "crate" => Some(segments[1..].to_vec()),
            "self" => Some([&self.module[..], &segments[1..]].concat()),
            "super" => {
                let up = segments.iter().take_while(|segment| *segment == "super").count();
                let base = &self.module[..self.module.len().checked_sub(up)?];
                Some([base, &segments[up..]].concat())
            }
            child if self.facts.children.iter().any(|known| known == child) => {
                Some([&self.module[..], segments].concat())
            }
            _ => None,
        }
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &[String], public: bool) {
        let extended = |ident: &syn::Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => {
                self.use_tree(&path.tree, &extended(&path.ident), public);
            }
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.use_tree(item, prefix, public);
                }
            }
            syn::UseTree::Name(name) if name.ident == "self" => self.import(prefix, None, public),
            syn::UseTree::Name(name) => {
                self.import(&extended(&name.ident), Some(name.ident.to_string()), public);
            }
            syn::UseTree::Rename(rename) => {
                self.import(&extended(&rename.ident), Some(rename.rename.to_string()), public);
            }
            syn::UseTree::Glob(_) => self.import(prefix, None, public),
        }
    }

    fn import(&mut self, segments: &[String], name: Option<String>, public: bool) {
        let Some(path) = self.absolute(segments) else { return };
        if let Some(name) = name.filter(|_| public) {
            self.facts.reexports.insert(name, path);
        } else {
            self.facts.paths.insert(path);
        }
    }

    /// Finds `crate::…` and `super::…` in the arguments of a macro, which syn does not parse.
    fn tokens(&mut self, tokens: &TokenStream) {
        let text = tokens.to_string().replace(' ', "");
        for start in ["crate::", "super::"] {
            for (index, _) in text.match_indices(start) {
                let path = &text[index..];
                let end = path
                    .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                    .unwrap_or(path.len());
                let segments: Vec<String> =
                    path[..end].split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect();
                self.facts.paths.extend(self.absolute(&segments));
            }
        }
    }

    fn documentation(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature) {
        let text = attributes.iter().find_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        let word = text.map(|text| text.split_whitespace().next().unwrap_or_default().to_owned());
        self.facts.documented.extend(word.map(|word| (signature.ident.to_string(), word)));
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = body.span().end().line + 1 - signature.span().start().line;
        self.facts.functions.push((signature.ident.to_string(), lines));
    }
}

pub fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.use_tree(&item.tree, &[], public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.facts.paths.extend(self.absolute(&segments).filter(|_| segments.len() > 1));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(&item.tokens);
        visit::visit_macro(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.facts.types.push(item.ident.to_string());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.facts.types.push(item.ident.to_string());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.facts.types.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.facts.types.push(item.ident.to_string());
        visit::visit_item_type(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig, &item.block);
            self.documentation(&item.attrs, &item.sig);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.documentation(&item.attrs, &item.sig);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.documentation(&item.attrs, &item.sig);
        visit::visit_trait_item_fn(self, item);
    }
}

pub fn facts_of(module: ModulePath, text: &str) -> Result<FileFacts, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut collector = Collector { module, facts: FileFacts::default() };
    collector.facts.children = file
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
            _ => None,
        })
        .collect();
    collector.visit_file(&file);
    Ok(collector.facts)
}

/// The module that a file of `src` is.
pub fn module_of(path: &Path) -> ModulePath {
    let parts = path.with_extension("");
    let mut module: ModulePath =
        parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

pub fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The source files but `main.rs`.
pub fn source() -> Result<Vec<SourceFile>, String> {
    let root = repository().join("src");
    let paths = rust_files(&root).into_iter().filter(|path| !path.ends_with("src/main.rs"));
    paths
        .map(|path| {
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
            let relative = path.strip_prefix(&root).map_err(|e| e.to_string())?.to_owned();
            let module = module_of(&relative);
            let facts = facts_of(module.clone(), &text)
                .map_err(|error| format!("{}: {error}", relative.display()))?;
            Ok(SourceFile { path: relative, module, lines: text.lines().count(), facts })
        })
        .collect()
}
