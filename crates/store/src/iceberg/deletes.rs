//! Position deletes: files of another writer that say which rows of data files are deleted.

use crate::iceberg::warehouse::storage::TableStorage;
use crate::lake::file::parquet_failed;
use crate::lake::read::source::RowsFile;
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use evt_core::error::{Error, Result};
use evt_core::iceberg::manifest::{ManifestEntry, Status};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The number of the column with the URI of a data file, by which the format knows it.
const FILE_PATH: i32 = 2_147_483_546;

/// The positions of deleted rows by the URI of their data file.
type DeletedPositions = HashMap<String, Vec<u64>>;

/// A file of deletes.
struct DeleteFile {
    file: RowsFile,
    /// The number of its commit: it holds for data files of this one and of those before.
    sequence: i64,
    /// The least and the greatest URI, as far as its bounds say; a bound may be the beginning of a URI.
    uris: [Option<Vec<u8>>; 2],
}

impl DeleteFile {
    /// Whether it may name a data file.
    fn may_name(&self, uri: &str) -> bool {
        let [least, greatest] = &self.uris;
        let uri = uri.as_bytes();
        least.as_deref().is_none_or(|least| least <= uri)
            && greatest.as_deref().is_none_or(|greatest| uri <= greatest || uri.starts_with(greatest))
    }

    /// Reads it. Errors: exit status 65 if it is no file of position deletes.
    fn read(&self) -> Result<DeletedPositions> {
        let foreign = || Error::corrupt(format!("{}: expected position deletes", self.file.path().display()));
        let bytes = self.file.open()?;
        let faults = bytes.faults();
        let failed = |error| faults.take().unwrap_or_else(|| parquet_failed(self.file.path())(error));
        let footer = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(failed)?;
        let bytes = self.file.open()?.with_plan(footer.metadata(), None, None);
        let faults = bytes.faults();
        let failed = |error| faults.take().unwrap_or_else(|| parquet_failed(self.file.path())(error));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, footer);
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["file_path", "pos"]);
        let mut found = DeletedPositions::new();
        for batch in builder.with_projection(mask).build().map_err(failed)? {
            let batch = batch.map_err(|error| faults.take().unwrap_or_else(|| foreign().because(error)))?;
            let column = |name: &str, wanted: DataType| {
                let column = batch.column_by_name(name).ok_or_else(foreign)?;
                cast(column, &wanted).map_err(|error| foreign().because(error))
            };
            let (uris, positions) = (column("file_path", DataType::Utf8)?, column("pos", DataType::Int64)?);
            for (uri, position) in uris.as_string::<i32>().iter().zip(positions.as_primitive::<Int64Type>()) {
                let position = position.and_then(|position| u64::try_from(position).ok()).ok_or_else(foreign)?;
                let uri = uri.ok_or_else(foreign)?;
                match found.get_mut(uri) {
                    Some(positions) => positions.push(position),
                    None => drop(found.insert(uri.to_owned(), vec![position])),
                }
            }
        }
        Ok(found)
    }
}

/// The position deletes of a version.
#[derive(Default)]
pub struct Deletes {
    files: Vec<DeleteFile>,
    /// The file that was read last, by its index: data files of one day often have one file of deletes.
    last: RefCell<Option<(usize, Rc<DeletedPositions>)>>,
}

impl Deletes {
    /// Adds the entries of a manifest of deletes.
    pub fn add(&mut self, storage: &TableStorage, entries: &[ManifestEntry]) -> Result<()> {
        for ManifestEntry { file, sequence, .. } in entries.iter().filter(|entry| entry.status != Status::Deleted) {
            let uris = [&file.least, &file.greatest].map(|bounds| bounds.get(&FILE_PATH).cloned());
            let file = storage.rows(&file.path, u64::try_from(file.bytes).unwrap_or(0))?;
            self.files.push(DeleteFile { file, sequence: sequence.unwrap_or_default(), uris });
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the positions of the deleted rows of a data file, in order, which a commit has added.
    pub fn of(&self, uri: &str, sequence: i64) -> Result<Vec<u64>> {
        let mut found = vec![];
        for (at, file) in self.files.iter().enumerate() {
            if file.sequence < sequence || !file.may_name(uri) {
                continue;
            }
            let known = self.last.borrow().as_ref().filter(|(last, _)| *last == at).map(|(_, known)| known.clone());
            let positions = match known {
                Some(known) => known,
                None => Rc::new(file.read()?),
            };
            found.extend(positions.get(uri).into_iter().flatten());
            *self.last.borrow_mut() = Some((at, positions));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
