//! Runs the bodies of the fuzz targets over their seeds and mutations of these, so that the targets keep working.

#[path = "../../fuzz/src/lib.rs"]
pub mod targets;

use crate::harness::ROOT;
use std::path::{Path, PathBuf};

/// Mutations of every seed corpus.
const MUTATIONS: usize = 1_000;

/// Deterministic and small: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len());
        start..bytes.len().min(start + 1 + self.below(16))
    }
}

fn directory(target: &str) -> PathBuf {
    Path::new(ROOT).join("fuzz/seeds").join(target)
}

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory(target)).unwrap_or_else(|error| panic!("seeds of {target}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no seeds");
    let read = |path: PathBuf| (path.display().to_string(), std::fs::read(&path).expect("readable"));
    paths.into_iter().map(read).collect()
}

/// Changes, removes or repeats some bytes, or takes them from another seed.
fn mutate(seeds: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].1.clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 | 2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = [0, 0xff, 0x80, b'"', b'\n'][at % 5]),
            4 => drop(bytes.drain(random.range(&bytes))),
            5 => {
                let doubled = bytes[random.range(&bytes)].to_vec();
                bytes.splice(at..at, doubled);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())].1;
                let taken = other[random.range(other)].to_vec();
                bytes.splice(at..at, taken);
            }
        }
    }
    bytes
}

/// Runs a body on an input; reports a panic with the input that caused it.
fn run(body: targets::Body, name: &str, input: &[u8], faults: &mut Vec<String>) {
    if std::panic::catch_unwind(|| body(input)).is_err() {
        faults.push(format!("{name}: fails on {:?}", String::from_utf8_lossy(input)));
    }
}

#[test]
fn every_fuzz_target_holds_on_its_seeds_and_on_mutations_of_them() {
    let mut faults = vec![];
    for (number, (target, body)) in targets::ALL.iter().enumerate() {
        let seeds = seeds(target);
        for (name, bytes) in &seeds {
            run(*body, name, bytes, &mut faults);
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + number as u64);
        for _ in 0..MUTATIONS {
            run(*body, target, &mutate(&seeds, &mut random), &mut faults);
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_fuzz_target_has_its_binary_and_every_directory_of_seeds_its_target() {
    let names: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
    let manifest = std::fs::read_to_string(Path::new(ROOT).join("fuzz/Cargo.toml")).expect("a manifest");
    for name in &names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(Path::new(ROOT).join(format!("fuzz/fuzz_targets/{name}.rs")).exists(), "{name}");
    }
    for entry in std::fs::read_dir(Path::new(ROOT).join("fuzz/seeds")).expect("seeds") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(names.contains(&name.as_str()), "{name} is not a target");
    }
}
