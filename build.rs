//! Compiles the few lines of C that run before Rust's runtime, into every binary.

fn main() {
    println!("cargo:rerun-if-changed=src/bin/before_main.c");
    // An object, not a library: a linker leaves out what nothing refers to.
    for object in cc::Build::new().file("src/bin/before_main.c").compile_intermediates() {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
}
