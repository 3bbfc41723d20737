//! Compiles the few lines of C that run before Rust's runtime, into every executable; and finds the commit for
//! `--version`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the executables are made of. A commit that changes nothing of it compiles nothing: the library does not contain
/// the version, but cargo would compile it again whenever this program runs.
const SOURCES: [&str; 5] = ["src", "crates", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    SOURCES.iter().for_each(|path| println!("cargo:rerun-if-changed={path}"));
    let commit = commit().map_or_else(String::new, |commit| format!(" ({commit})"));
    let version = format!("{}{commit}", env!("CARGO_PKG_VERSION"));
    println!("cargo:rustc-env=EVT_VERSION={version}");
    let mut c = cc::Build::new();
    c.file("src/bin/before_main.c").define("EVT_VERSION", format!("\"{version}\"").as_str());
    // An object, not a library: a linker leaves out what nothing refers to.
    for object in c.compile_intermediates() {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    if has_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the loader here reads packed relocations, as that of glibc 2.36 does. They save 2 MB that it would read at every
/// start of a tool, a tenth of the time of a start. Such executables need that glibc, wherever they run.
fn has_packed_relocations() -> bool {
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let is_native = std::env::var("HOST") == std::env::var("TARGET");
    if !is_native || target("OS") != "linux" || target("ENV") != "gnu" {
        return false;
    }
    let version = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok();
    let version = version.and_then(|run| String::from_utf8(run.stdout).ok()).unwrap_or_default();
    let minor = version.trim().strip_prefix("glibc 2.").and_then(|minor| minor.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 36)
}

/// The abbreviated hash of the commit, with `+` if the sources differ from it, and its date; `None` without git or
/// outside a checkout of evt.
fn commit() -> Option<String> {
    // Checkouts that share a target directory share this program, so it asks for the directory when it runs.
    let directory = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let git = |args: &[&str]| git(&directory, args);
    // A copy of the sources may lie in the checkout of another project.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&root).canonicalize().ok()? != directory.canonicalize().ok()? {
        return None;
    }
    let changed = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat())?;
    let mark = if changed.is_empty() { "" } else { "+" };
    git(&["log", "-1", &format!("--format=%h{mark} %cs")])
}

/// The output of git in a directory; `None` if it fails.
fn git(directory: &Path, args: &[&str]) -> Option<String> {
    let run = Command::new("git").args(args).current_dir(directory).output().ok()?;
    let text = String::from_utf8(run.stdout).ok().filter(|_| run.status.success())?;
    Some(text.trim().to_owned())
}
