//! Structs with many fields, each with its reason.

/// A struct with more fields than tidy::FIELDS_MAX.
pub struct LargeStruct {
    pub file: &'static str,
    pub name: &'static str,
    pub fields: usize,
    pub reason: &'static str,
}

const fn large(file: &'static str, name: &'static str, fields: usize, reason: &'static str) -> LargeStruct {
    LargeStruct { file, name, fields, reason }
}

/// All structs with many fields; none may grow without a change here.
pub const LARGE_STRUCTS: [LargeStruct; 22] = [
    large("crates/core/src/format/definition.rs", "Format", 18, "a property of a row of the table is a field"),
    large("crates/core/src/frame/decode.rs", "Decoder", 15, "the state of one machine, whose buffers are used again"),
    large("crates/core/src/generate/options.rs", "Options", 20, "a flag is a field, without clap"),
    large("crates/core/src/generate/truth.rs", "TruthReport", 13, "a member of a JSON document is a field"),
    large("crates/run/src/input/spool.rs", "SpoolInput", 13, "the state of one input"),
    large("crates/core/src/kind/letters.rs", "Builder", 20, "a column is a field"),
    large("crates/core/src/iceberg/manifest_reader.rs", "FileRecord", 13, "a member of a record of Avro is a field"),
    large(
        "crates/core/src/iceberg/manifest_reader.rs",
        "ManifestRecord",
        14,
        "a member of a record of Avro is a field",
    ),
    large("crates/core/src/iceberg/metadata.rs", "TableMetadata", 20, "a member of a JSON document is a field"),
    large("crates/core/src/mapping/build/mod.rs", "Builder", 21, "a column is a field"),
    large("crates/core/src/mapping/build/mod.rs", "Row", 16, "a column is a field"),
    large("crates/core/src/mapping/options.rs", "Options", 18, "a mapping flag is a field"),
    large("crates/run/src/run/mod.rs", "Run", 18, "what all parts of a run share"),
    large("src/cli/args.rs", "MapArgs", 13, "a flag is a field"),
    large("src/cli/resolve.rs", "StageSpec", 13, "a property of a tool is a field"),
    large("src/source/mod.rs", "Source", 16, "inputs that wait, that run and that have ended, with what holds for all"),
    large("src/stage/outputs.rs", "Outputs", 19, "all outputs with their counts and the state of their end"),
    large("crates/store/src/definition.rs", "Store", 18, "a property of a row of the table is a field"),
    large("crates/store/src/lake/mod.rs", "Parquet", 15, "the state of one writer, of which a mode uses a part"),
    large("crates/store/src/upkeep.rs", "TableDescription", 13, "a member of a JSON document is a field"),
    large("src/tool/backfill/operator.rs", "Correct", 14, "the operator with its stores, its progress and its report"),
    large("src/tool/generate.rs", "Args", 23, "a flag is a field"),
];
