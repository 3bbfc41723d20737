//! Compiles the few lines of C that run before Rust's runtime, into every binary; and finds the commit for `--version`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/bin/before_main.c");
    // An object, not a library: a linker leaves out what nothing refers to.
    for object in cc::Build::new().file("src/bin/before_main.c").compile_intermediates() {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    let commit = commit().map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo:rustc-env=EVT_VERSION={}{commit}", env!("CARGO_PKG_VERSION"));
}

/// The abbreviated hash and the date of the commit; `None` without git or outside a checkout of evt.
fn commit() -> Option<String> {
    // Checkouts that share a target directory share this program, so it asks for the directory when it runs.
    let directory = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let git = |args: &[&str]| git(&directory, args);
    // A copy of the sources may lie in the checkout of another project.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&root).canonicalize().ok()? != directory.canonicalize().ok()? {
        return None;
    }
    // The log of HEAD changes with every commit and checkout; HEAD itself only with a checkout. Cargo would rerun this for ever
    // if the file did not exist. The name is relative to the checkout, if it lies there.
    let mut paths = ["logs/HEAD", "HEAD"].into_iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    let watched = paths.find(|path| directory.join(path).exists())?;
    println!("cargo:rerun-if-changed={watched}");
    git(&["log", "-1", "--format=%h %cs"])
}

/// The output of git in a directory; `None` if it fails.
fn git(directory: &Path, args: &[&str]) -> Option<String> {
    let run = Command::new("git").args(args).current_dir(directory).output().ok()?;
    let text = String::from_utf8(run.stdout).ok().filter(|_| run.status.success())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
