//! Finds import cycles between modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::visit::Visit;
use syn::{ItemMod, ItemUse, UseTree};

/// A module's path from the crate's root, which is the empty one.
type Module = Vec<String>;

/// Imports and paths of a module's file, without tests.
#[derive(Debug, Default)]
struct Source {
    /// Imported names and the paths they stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// Every path that begins with `crate`, `self`, `super` or a child module, from the crate's root.
    paths: Vec<Vec<String>>,
    /// Every name in scope that it uses without a path.
    names: BTreeSet<String>,
}

/// The modules of a crate.
#[derive(Debug)]
struct Crate {
    modules: BTreeMap<Module, Source>,
}

/// One sentence per crate below `root/crates` with an import cycle.
pub(super) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut folders = vec![];
    folders.push(root.join("xtask/src"));
    for entry in fs::read_dir(root.join("crates")).context("crates")? {
        folders.push(entry?.path().join("src"));
    }
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    let mut findings = Vec::new();
    for folder in folders {
        let name = folder.strip_prefix(root).unwrap_or(&folder).display();
        let cycle = Crate::read(&folder)?.cycle();
        findings.extend(cycle.map(|modules| {
            let modules: Vec<String> = modules.iter().map(|module| module.join("::")).collect();
            format!("{name}: modules import each other in a cycle: {}", modules.join(" → "))
        }));
    }
    Ok(findings)
}

impl Crate {
    fn read(folder: &Path) -> Result<Self> {
        let mut modules = BTreeMap::new();
        for file in sources(folder)? {
            let module = module_of(file.strip_prefix(folder)?);
            let text = fs::read_to_string(&file)?;
            let syntax = syn::parse_file(&text).with_context(|| file.display().to_string())?;
            let mut reader = Reader { module: &module, source: Source::default() };
            reader.visit_file(&syntax);
            let source = reader.source;
            modules.insert(module, source);
        }
        Ok(Self { modules })
    }

    /// An import cycle; the first module is repeated at the end.
    fn cycle(&self) -> Option<Vec<Module>> {
        let edges: BTreeMap<&Module, BTreeSet<Module>> =
            self.modules.iter().map(|(from, source)| (from, self.used_by(from, source))).collect();
        let mut done = BTreeSet::new();
        edges.keys().find_map(|module| walk(module, &edges, &mut Vec::new(), &mut done))
    }

    fn used_by(&self, from: &Module, source: &Source) -> BTreeSet<Module> {
        // A name that it re-exports and uses itself is a dependency too.
        let named = source.names.iter().filter_map(|name| source.imports.get(name));
        let used = source.paths.iter().chain(named).map(|path| self.home(path, 0));
        used.filter(|module| module != from).collect()
    }

    /// The module that defines the item at a path from the root.
    fn home(&self, path: &[String], depth: usize) -> Module {
        let mut module = Module::new();
        for (at, segment) in path.iter().enumerate() {
            module.push(segment.clone());
            if self.modules.contains_key(&module) {
                continue;
            }
            module.pop();
            let import = self.modules.get(&module).and_then(|source| source.imports.get(segment));
            return match import {
                Some(import) if depth < 8 => {
                    let rest = &path[at + 1..];
                    self.home(&[import, rest].concat(), depth + 1)
                }
                _ => module,
            };
        }
        module
    }
}

/// Depth-first search along the imports; returns a cycle, if it reaches a module on the current path.
fn walk(
    module: &Module,
    edges: &BTreeMap<&Module, BTreeSet<Module>>,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(first) = way.iter().position(|passed| passed == module) {
        return Some([&way[first..], std::slice::from_ref(module)].concat());
    }
    if !done.insert(module.clone()) {
        return None;
    }
    way.push(module.clone());
    let found = edges[module].iter().find_map(|next| walk(next, edges, way, done));
    way.pop();
    found
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; `lib.rs` and `main.rs` the root.
fn module_of(file: &Path) -> Module {
    let segments = file.with_extension("");
    let segments = segments.iter().map(|segment| segment.to_string_lossy().into_owned());
    segments.filter(|segment| !matches!(segment.as_str(), "lib" | "main" | "mod")).collect()
}

/// Collects a file's imports and paths.
struct Reader<'a> {
    module: &'a Module,
    source: Source,
}

impl Reader<'_> {
    /// The path from the crate's root; `None` for paths into other crates and names in scope.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = self.module.clone();
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => return None,
        }
        let mut rest = rest;
        while let Some(("super", further)) = rest.split_first().map(|(s, r)| (s.as_str(), r)) {
            base.pop();
            rest = further;
        }
        Some([&base[..], rest].concat())
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before));
            }
            UseTree::Name(name) if name.ident == "self" => {
                let known_as = before.last().cloned().unwrap_or_default();
                self.record(before, Some(known_as));
            }
            UseTree::Name(name) => self.record(&with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(name) => {
                self.record(&with(&name.ident), Some(name.rename.to_string()));
            }
            UseTree::Glob(_) => self.record(before, None),
        }
    }

    fn record(&mut self, path: &[String], known_as: Option<String>) {
        // `pub use child::Name` without a prefix refers to a child module; otherwise to another crate.
        let path = self.absolute(path).unwrap_or_else(|| [&self.module[..], path].concat());
        if let Some(name) = known_as {
            self.source.imports.insert(name, path.clone());
        }
        self.source.paths.push(path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            let on = attribute.meta.require_list();
            attribute.path().is_ident("cfg")
                && on.is_ok_and(|on| is_for_tests(&on.tokens.to_string()))
        });
        if !is_test {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_reexport(item) {
            self.import(&item.tree, &[]);
            return;
        }
        // Importing through a re-export is a dependency on the re-exported item; the re-export itself is none.
        let n_paths = self.source.paths.len();
        self.import(&item.tree, &[]);
        self.source.paths.truncate(n_paths);
    }

    /// `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        match &segments[..] {
            [name] => drop(self.source.names.insert(name.clone())),
            // A child module's or an imported one's; another crate's leads nowhere.
            _ => {
                let inner = || [&self.module[..], &segments].concat();
                let path = self.absolute(&segments).unwrap_or_else(inner);
                self.source.paths.push(path);
            }
        }
        syn::visit::visit_path(self, path);
    }
}

/// Whether a `cfg` condition is met in tests alone.
fn is_for_tests(condition: &str) -> bool {
    condition.contains("test") && !condition.contains("not")
}

fn is_reexport(item: &ItemUse) -> bool {
    !matches!(item.vis, syn::Visibility::Inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The import cycle of a crate of these (name, text) files.
    fn cycle_of(files: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let modules = Crate::read(folder.path()).unwrap().cycle()?;
        Some(modules.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_circle_is_found_through_reexports_and_paths() {
        let root = ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B;");
        let open = [root, ("a.rs", "use crate::B; struct A(B);"), ("b.rs", "pub struct B;")];
        assert_eq!(cycle_of(&[&open[..], &[("c.rs", "use crate::{A, B};")]].concat()), None);
        let closed = [root, open[1], ("b.rs", "pub fn b() { crate::A; }")];
        assert_eq!(cycle_of(&closed).as_deref(), Some("a b a"));
    }

    #[test]
    fn a_parent_and_its_child_can_make_a_cycle() {
        let root = ("lib.rs", "mod a;");
        let parent = ("a/mod.rs", "mod b; pub use b::B; pub struct A;");
        assert_eq!(cycle_of(&[root, parent, ("a/b.rs", "use super::A; pub struct B;")]), None);
        let parent = ("a/mod.rs", "mod b; use self::b::B; pub struct A(B);");
        let child = ("a/b.rs", "use super::A; pub struct B;");
        assert_eq!(cycle_of(&[root, parent, child]).as_deref(), Some("a a::b a"));
    }

    #[test]
    fn paths_of_children_and_names_of_reexports_count() {
        let root = ("lib.rs", "mod a;");
        let child = ("a/b.rs", "use super::A; pub struct B; pub fn make() {}");
        for parent in [
            "mod b; pub struct A; fn f() { b::make(); }",
            "mod b; pub(crate) use b::B; pub struct A(B);",
        ] {
            let cycle = cycle_of(&[root, ("a/mod.rs", parent), child]);
            assert_eq!(cycle.as_deref(), Some("a a::b a"), "{parent}");
        }
        let parent = "mod b; pub(crate) use b::B; pub struct A;";
        assert_eq!(cycle_of(&[root, ("a/mod.rs", parent), child]), None);
    }

    #[test]
    fn tests_may_import_what_they_test() {
        let child = ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }");
        let files =
            [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B; pub struct A;"), child];
        assert_eq!(cycle_of(&files), None);
    }
}
