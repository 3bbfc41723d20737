//! Reading a lake back: files in order of day and name, each in the order it was written.

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::store::Batches;
use crate::store::lake::directory as lake;
use crate::store::lake::file::parquet_failed;
use crate::store::lake::root;
use crate::store::{Location, Tables, rows};
use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Rows of a batch.
const BATCH: usize = 2048;

/// The one table of a lake and how many rows its files hold.
pub fn tables(location: &Location) -> Result<Tables> {
    let root = root(location)?;
    let files: Vec<PathBuf> = lake::files(&root)?.into_values().flatten().collect();
    let Some(first) = files.first() else { return Err(empty(&root)) };
    let kind = open(first)?.0;
    let mut count = 0;
    for file in &files {
        let rows = open(file)?.1.metadata().file_metadata().num_rows();
        count += u64::try_from(rows).unwrap_or(0);
    }
    Ok(vec![(kind.table().to_owned(), count)])
}

/// The rows of every file; exit 2 where they are of another kind.
pub fn read(location: &Location, kind: Kind) -> Result<Batches> {
    let root = root(location)?;
    match kind_of(&root)? {
        Some(found) => check_kind(&root, found, kind)?,
        None => return Err(empty(&root)),
    }
    let files: Vec<PathBuf> = lake::files(&root)?.into_values().flatten().collect();
    Ok(Box::new(files.into_iter().flat_map(move |path| match batches(&path, kind) {
        Ok(batches) => batches,
        Err(error) => Box::new(std::iter::once(Err(error))),
    })))
}

fn empty(root: &Path) -> Error {
    Error::usage(format!("parquet:{}: holds no files of evt (date=YYYY-MM-DD/*.parquet)", root.display()))
}

/// Exit 2 unless what a lake holds is what is asked for.
pub fn check_kind(root: &Path, found: Kind, kind: Kind) -> Result<()> {
    if found == kind {
        return Ok(());
    }
    let (root, found, kind) = (root.display(), found.table(), kind.table());
    Err(Error::usage(format!("parquet:{root}: this directory holds {found}, not {kind}: name another")))
}

/// The kind of the files in a lake, if there are any.
pub fn kind_of(root: &Path) -> Result<Option<Kind>> {
    let first = lake::files(root)?.into_values().flatten().next();
    first.map(|path| Ok(open(&path)?.0)).transpose()
}

fn open(path: &Path) -> Result<(Kind, ParquetRecordBatchReaderBuilder<File>)> {
    let file = File::open(path).map_err(|e| lake::failed(path, "cannot open", &e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file);
    let builder = builder.map_err(|e| Error::corrupt(format!("parquet:{}", path.display())).because(e))?;
    match Kind::of(builder.schema()) {
        Some(kind) => Ok((kind, builder)),
        None => Err(Error::usage(format!("parquet:{}: evt did not write this file", path.display()))),
    }
}

/// The rows of one file.
pub fn batches(path: &Path, kind: Kind) -> Result<Batches> {
    let (found, builder) = open(path)?;
    check_kind(path, found, kind)?;
    let reader = builder.with_batch_size(BATCH).build().map_err(|e| parquet_failed(path, e))?;
    let path = path.to_owned();
    Ok(Box::new(Rows { reader, kind, path }))
}

struct Rows {
    reader: ParquetRecordBatchReader,
    kind: Kind,
    path: PathBuf,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let corrupt = |e| Error::corrupt(format!("parquet:{}", self.path.display())).because(e);
        Some(batch.map_err(corrupt).and_then(|batch| rows::align(self.kind, &batch)))
    }
}
