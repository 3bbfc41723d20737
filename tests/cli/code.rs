//! The structure of Rust code as a compiler sees it: modules, imports, functions, types.

use crate::harness::ROOT;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use syn::visit::Visit;

/// A function as it is written.
pub struct Function {
    pub file: String,
    pub line: usize,
    pub name: String,
    pub lines: usize,
    /// Its arguments without `self`; a tuple counts as its elements, because it only hides them, also behind a
    /// reference, in an `Option` and in a slice.
    pub arguments: usize,
}

/// A type as it is written: a struct, an enum, a trait or an alias.
pub struct Type {
    pub file: String,
    pub name: String,
    /// How many named fields a struct has.
    pub fields: usize,
}

/// The crates of the workspace and their roots, from the lowest.
pub const CRATES: [(&str, &str); 8] = [
    ("evt_core", "crates/core/src/lib.rs"),
    ("evt_run", "crates/run/src/lib.rs"),
    ("evt_store", "crates/store/src/lib.rs"),
    ("evt_notify", "crates/notify/src/lib.rs"),
    ("evt_kafka", "crates/kafka/src/lib.rs"),
    ("evt_http", "crates/http/src/lib.rs"),
    ("evt_launcher", "crates/launcher/src/lib.rs"),
    ("evt", "src/lib.rs"),
];

/// Crates: all modules that their roots declare.
pub struct Code {
    has_tests: bool,
    /// The path of each module begins with the name of its crate.
    modules: BTreeMap<Vec<String>, Module>,
    pub functions: Vec<Function>,
    pub types: Vec<Type>,
    /// Comparisons of a field or method `name`, `scheme` or `tool` with a constant: `FILE:LINE`.
    pub compared_names: Vec<String>,
}

#[derive(Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// Names that `use` brings in, as written from the module.
    imported: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Every path of the module's code, as written; macros end in `!`.
    paths: BTreeSet<Vec<String>>,
    /// Types that have an `impl` without a trait here.
    extended: BTreeSet<String>,
}

impl Code {
    /// The libraries without their unit tests.
    pub fn production() -> &'static Self {
        static CODE: OnceLock<Code> = OnceLock::new();
        CODE.get_or_init(|| Self::read(&CRATES, false))
    }

    /// The crate of `root` with its unit tests.
    pub fn with_tests(root: &str) -> Self {
        Self::read(&[("program", root)], true)
    }

    fn read(roots: &[(&str, &str)], has_tests: bool) -> Self {
        let mut code =
            Self { has_tests, modules: BTreeMap::new(), functions: vec![], types: vec![], compared_names: vec![] };
        roots.iter().for_each(|(name, root)| code.read_module(Path::new(root), vec![(*name).to_owned()]));
        code
    }

    fn read_module(&mut self, file: &Path, path: Vec<String>) {
        let text = std::fs::read_to_string(Path::new(ROOT).join(file)).expect("a declared module has a file");
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(&parsed.items, file, path);
    }

    fn read_items(&mut self, items: &[syn::Item], file: &Path, path: Vec<String>) {
        let name = file.to_string_lossy().into_owned();
        let module = Module { file: name.clone(), ..Module::default() };
        let mut visitor = Visitor { code: self, file: name, module };
        let items: Vec<_> = items.iter().filter(|item| visitor.code.has_tests || !is_test(attributes(item))).collect();
        items.iter().for_each(|item| visitor.visit_item(item));
        let mut module = visitor.module;
        for item in items {
            let syn::Item::Mod(declared) = item else { continue };
            let child = declared.ident.to_string();
            module.children.insert(child.clone());
            let path: Vec<String> = path.iter().cloned().chain([child.clone()]).collect();
            match &declared.content {
                Some((_, items)) => self.read_items(items, file, path),
                None => self.read_module(&file_of(file, declared), path),
            }
        }
        self.modules.insert(path, module);
    }

    /// Which files each file imports from. A name that is exported once more counts for the file that defines it.
    pub fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (at, module) in &self.modules {
            let found = imports.entry(module.file.clone()).or_default();
            for path in module.paths.iter().chain(&module.globs) {
                if let Some(file) = self.resolve(at, path, 0).filter(|file| *file != module.file) {
                    found.insert(file);
                }
            }
        }
        imports
    }

    /// What `use` brings into each file from the crate: the file, the path as written, and the file that defines it.
    pub fn uses(&self) -> impl Iterator<Item = (&str, &[String], String)> {
        self.modules.iter().flat_map(move |(at, module)| {
            let resolved = move |path| Some((module.file.as_str(), path, self.resolve(at, path, 0)?));
            module.imported.values().map(Vec::as_slice).filter_map(resolved)
        })
    }

    /// Every path that each file names, as written.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.modules.values().flat_map(|module| {
            module.paths.iter().chain(&module.globs).map(|path| (module.file.as_str(), path.as_slice()))
        })
    }

    /// The files in which each type has an `impl` without a trait: `FILE: NAME` of its definition → files.
    pub fn impls(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut impls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (at, module) in &self.modules {
            for name in &module.extended {
                let file = self.definition(at, name, 0).unwrap_or_default();
                impls.entry(format!("{file}: {name}")).or_default().insert(module.file.clone());
            }
        }
        impls
    }

    /// The file that defines what `path` names, seen from the module `at`.
    fn resolve(&self, at: &[String], path: &[String], depth: usize) -> Option<String> {
        if depth > 16 {
            return None;
        }
        let mut place = at.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (place, rest) = (at[..1].to_vec(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    place.pop()?;
                    rest = &rest[1..];
                }
            }
            // A path without a prefix begins with a child of the module or with what `use` brings in.
            first if self.modules.get(at)?.children.contains(first) => {}
            first => match self.modules.get(at)?.imported.get(first) {
                Some(imported) if imported != &path[..1] => {
                    return self.resolve(at, &[imported, &path[1..]].concat(), depth + 1);
                }
                _ => (place, rest) = (path[..1].to_vec(), &path[1..]),
            },
        }
        while let Some(next) = rest.first() {
            let module = self.modules.get(&place)?;
            if !module.children.contains(next) {
                return self.definition(&place, next, depth);
            }
            place.push(next.clone());
            rest = &rest[1..];
        }
        Some(self.modules.get(&place)?.file.clone())
    }

    /// The file that defines `name`, which the module `at` defines or imports.
    fn definition(&self, at: &[String], name: &str, depth: usize) -> Option<String> {
        let module = self.modules.get(at)?;
        if let Some(path) = module.imported.get(name) {
            return self.resolve(at, path, depth + 1).or_else(|| Some(module.file.clone()));
        }
        Some(module.file.clone())
    }
}

/// Groups of files or directories that import each other, directly or not, the largest first.
pub fn cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reachable(imports, file))).collect();
    let mut seen = BTreeSet::new();
    let mut cycles = vec![];
    for file in imports.keys().filter(|file| reach[file.as_str()].contains(file.as_str())) {
        let is_mutual = |other: &&&str| reach.get(**other).is_some_and(|back| back.contains(file.as_str()));
        let cycle: Vec<String> = reach[file.as_str()].iter().filter(is_mutual).map(|file| (*file).to_owned()).collect();
        if seen.insert(cycle.clone()) {
            cycles.push(cycle);
        }
    }
    cycles.sort_by_key(|cycle| std::cmp::Reverse(cycle.len()));
    cycles
}

/// All files that `from` imports, directly or not: `from` itself only if it is part of a cycle.
fn reachable<'a>(imports: &'a BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut waiting: Vec<&str> = vec![from];
    while let Some(file) = waiting.pop() {
        for next in imports.get(file).into_iter().flatten() {
            if found.insert(next) {
                waiting.push(next);
            }
        }
    }
    found
}

/// The file of the module that `parent` declares.
fn file_of(parent: &Path, declared: &syn::ItemMod) -> PathBuf {
    let beside = parent.parent().expect("it stands in a directory").to_owned();
    for attribute in declared.attrs.iter().filter(|attribute| attribute.path().is_ident("path")) {
        let syn::Meta::NameValue(path) = &attribute.meta else { continue };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &path.value else { continue };
        return Path::new(&path.value()).iter().fold(beside, |place, part| match part.to_str() {
            Some("..") => place.parent().unwrap_or(Path::new("")).to_owned(),
            _ => place.join(part),
        });
    }
    let child = declared.ident.to_string();
    let dir = match parent.file_name().and_then(|name| name.to_str()) {
        Some("lib.rs" | "main.rs" | "mod.rs") => beside,
        _ => parent.with_extension(""),
    };
    let file = dir.join(format!("{child}.rs"));
    if Path::new(ROOT).join(&file).exists() { file } else { dir.join(child).join("mod.rs") }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("any (test"))
    })
}

/// Whether an expression is the field or method `name`, `scheme` or `tool` of a value, perhaps behind `*`, `&` or
/// `as_str()`. A `field` is a column of Arrow, whose name is a part of the format.
fn is_name(expr: &syn::Expr) -> bool {
    let is_named = |name: &syn::Ident| ["name", "scheme", "tool"].iter().any(|known| name == known);
    let is_column = |expr: &syn::Expr| matches!(expr, syn::Expr::Path(path) if path.path.is_ident("field"));
    match expr {
        syn::Expr::Field(field) => {
            matches!(&field.member, syn::Member::Named(name) if is_named(name)) && !is_constant(expr)
        }
        syn::Expr::MethodCall(call) if call.args.is_empty() && is_named(&call.method) => !is_column(&call.receiver),
        syn::Expr::Unary(unary) => is_name(&unary.expr),
        syn::Expr::Reference(reference) => is_name(&reference.expr),
        syn::Expr::Paren(paren) => is_name(&paren.expr),
        syn::Expr::MethodCall(call) => call.method == "as_str" && is_name(&call.receiver),
        _ => false,
    }
}

/// Whether an expression is a text in quotes, or a field of a constant.
fn is_constant(expr: &syn::Expr) -> bool {
    let is_upper = |name: &syn::Ident| !name.to_string().contains(|c: char| c.is_lowercase());
    match expr {
        syn::Expr::Lit(literal) => matches!(literal.lit, syn::Lit::Str(_)),
        syn::Expr::Field(field) => {
            let syn::Expr::Path(path) = &*field.base else { return false };
            path.path.segments.last().is_some_and(|last| is_upper(&last.ident))
        }
        syn::Expr::Reference(reference) => is_constant(&reference.expr),
        _ => false,
    }
}

/// Returns how many values an argument of this type has.
fn elements(of: &syn::Type) -> usize {
    match of {
        syn::Type::Tuple(tuple) => tuple.elems.len().max(1),
        syn::Type::Reference(reference) => elements(&reference.elem),
        syn::Type::Slice(slice) => elements(&slice.elem),
        syn::Type::Path(path) => match path.path.segments.last() {
            Some(syn::PathSegment { ident, arguments: syn::PathArguments::AngleBracketed(of) })
                if ident == "Option" =>
            {
                let inner =
                    of.args.iter().find_map(|of| if let syn::GenericArgument::Type(of) = of { Some(of) } else { None });
                inner.map_or(1, elements)
            }
            _ => 1,
        },
        _ => 1,
    }
}

struct Visitor<'a> {
    code: &'a mut Code,
    file: String,
    module: Module,
}

impl Visitor<'_> {
    fn function(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        let elements = |argument: &syn::FnArg| match argument {
            syn::FnArg::Receiver(_) => 0,
            syn::FnArg::Typed(typed) => elements(&typed.ty),
        };
        let line = signature.fn_token.span.start().line;
        let last = body.map_or(line, |body| body.brace_token.span.close().end().line);
        self.code.functions.push(Function {
            file: self.file.clone(),
            line,
            name: signature.ident.to_string(),
            lines: last - line + 1,
            arguments: signature.inputs.iter().map(elements).sum(),
        });
    }

    fn defines(&mut self, name: &syn::Ident, fields: usize) {
        self.code.types.push(Type { file: self.file.clone(), name: name.to_string(), fields });
    }

    fn compares_name(&mut self, line: usize) {
        self.code.compared_names.push(format!("{}:{line}", self.file));
    }

    fn take_use(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.take_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.take_use(tree, before)),
            syn::UseTree::Glob(_) => self.module.globs.push(before.to_vec()),
            syn::UseTree::Name(name) if name.ident == "self" => self.bring_in(before.last().cloned(), before.to_vec()),
            syn::UseTree::Name(name) => self.bring_in(Some(name.ident.to_string()), with(&name.ident)),
            syn::UseTree::Rename(renamed) => self.bring_in(Some(renamed.rename.to_string()), with(&renamed.ident)),
        }
    }

    fn bring_in(&mut self, name: Option<String>, path: Vec<String>) {
        let Some(name) = name else { return };
        self.module.paths.insert(path.clone());
        self.module.imported.insert(name, path);
    }

    /// Paths in what a macro is given.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = vec![];
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.take_tokens(group.stream()),
                TokenTree::Ident(name) => {
                    self.end_path(&mut path);
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                _ => {}
            }
            self.end_path(&mut path);
            colons = 0;
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.module.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        // Modules are read by themselves, tests are not.
        if !matches!(item, syn::Item::Mod(_)) && (self.code.has_tests || !is_test(attributes(item))) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_use(&item.tree, &[]);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, Some(&item.block));
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_test(&item.attrs) && !self.code.has_tests {
            return;
        }
        self.function(&item.sig, Some(&item.block));
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.defines(&item.ident, item.fields.len());
        syn::visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.defines(&item.ident, 0);
        syn::visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.defines(&item.ident, 0);
        syn::visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.defines(&item.ident, 0);
        syn::visit::visit_item_type(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let (None, syn::Type::Path(path)) = (&item.trait_, &*item.self_ty)
            && let Some(last) = path.path.segments.last()
        {
            self.module.extended.insert(last.ident.to_string());
        }
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // It names a module that holds this one, and imports nothing.
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 && path.leading_colon.is_none() {
            self.module.paths.insert(segments);
        }
        syn::visit::visit_path(self, path);
    }

    /// `elapsed` of an `Instant` reads a clock; `self` and the collector `out` have a method of that name themselves.
    fn visit_expr_method_call(&mut self, item: &'ast syn::ExprMethodCall) {
        let is_own =
            matches!(&*item.receiver, syn::Expr::Path(path) if path.path.is_ident("self") || path.path.is_ident("out"));
        if item.method == "elapsed" && !is_own {
            self.module.paths.insert(["Instant", "elapsed"].map(str::to_owned).to_vec());
        }
        syn::visit::visit_expr_method_call(self, item);
    }

    fn visit_expr_binary(&mut self, item: &'ast syn::ExprBinary) {
        let span = match &item.op {
            syn::BinOp::Eq(mark) => Some(mark.spans[0]),
            syn::BinOp::Ne(mark) => Some(mark.spans[0]),
            _ => None,
        };
        let (left, right) = (&*item.left, &*item.right);
        if let Some(span) = span
            && (is_name(left) && is_constant(right) || is_constant(left) && is_name(right))
        {
            self.compares_name(span.start().line);
        }
        syn::visit::visit_expr_binary(self, item);
    }

    fn visit_expr_match(&mut self, item: &'ast syn::ExprMatch) {
        let is_text =
            |arm: &syn::Arm| matches!(&arm.pat, syn::Pat::Lit(literal) if matches!(literal.lit, syn::Lit::Str(_)));
        if is_name(&item.expr) && item.arms.iter().any(is_text) {
            self.compares_name(item.match_token.span.start().line);
        }
        syn::visit::visit_expr_match(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if item.path.is_ident("matches")
            && let Ok(value) = item.parse_body_with(|input: syn::parse::ParseStream<'_>| {
                let value = input.parse::<syn::Expr>();
                input.parse::<TokenStream>().and(value)
            })
            && is_name(&value)
        {
            self.compares_name(item.bang_token.span.start().line);
        }
        if let Some(name) = item.path.segments.last() {
            self.module.paths.insert(vec![format!("{}!", name.ident)]);
        }
        self.take_tokens(item.tokens.clone());
        syn::visit::visit_macro(self, item);
    }
}
