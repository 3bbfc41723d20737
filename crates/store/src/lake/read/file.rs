//! Reads one file of rows.

use super::source::{RowsBytes, RowsFaults, RowsFile};
use crate::lake::directory::{Lake, LakePart};
use crate::lake::file::parquet_failed;
use crate::{ReadRequest, rows};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use evt_core::error::{Error, Result, UnreadableRows};
use evt_core::format::parquet::TableColumns;
use evt_core::format::properties::{self, is_property};
use evt_core::kind::Kind;
use evt_core::kind::event::{COLUMNS, column};
use evt_core::kind::span::Span;
use evt_core::kind::values::blank;
use evt_run::checkpoint::epoch::Batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::SchemaDescriptor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum rows of a batch.
const BATCH: usize = 2048;

/// The reader of a file whose footer is known.
pub type Reading = ParquetRecordBatchReaderBuilder<RowsBytes>;

/// Checks that a lake holds the requested kind. Errors: exit status 2.
pub fn check_kind(root: &Path, found: Kind, kind: Kind) -> Result<()> {
    if found == kind {
        return Ok(());
    }
    let (root, found, kind) = (root.display(), found.table(), kind.table());
    Err(Error::usage(format!("parquet:{root}: expected {kind}, found {found}; use another directory")))
}

/// Returns the kind of the rows of a file; `None` if they are not of evt. Errors: exit status 65 if it is no Parquet
/// file, 74 if it cannot be read.
pub fn kind_in(path: &Path, file: RowsBytes) -> Result<Option<(Kind, Reading)>> {
    let builder = reading_of(path, file)?;
    Ok(Kind::of(builder.schema()).map(|kind| (kind, builder)))
}

/// Reads the footer of a file. Errors: those of [`kind_in`].
fn reading_of(path: &Path, file: RowsBytes) -> Result<Reading> {
    let faults = file.faults();
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| {
        if let Some(fault) = faults.take() {
            return fault;
        }
        let of_disk = match &error {
            ParquetError::External(cause) => cause.downcast_ref::<std::io::Error>(),
            _ => None,
        };
        // A file that ends early is none of Parquet.
        if let Some(cause) = of_disk.filter(|cause| cause.kind() != std::io::ErrorKind::UnexpectedEof) {
            return Error::io(format!("parquet:{}: cannot read", path.display()), cause);
        }
        let file = path.display();
        let message = format!("parquet:{file}: expected a Parquet file; move it away if no run of evt wrote it");
        Error::corrupt(message).because(error)
    })
}

/// The error of a file that evt did not write.
#[cold]
pub fn foreign(path: &Path) -> Error {
    let path = path.display();
    Error::usage(format!("parquet:{path}: not a file written by evt; move it out of the directory of the day"))
}

/// A file of the lake, or a part.
pub struct LakeFile {
    /// Where it is.
    pub file: RowsFile,
    kind: Kind,
    footer: ArrowReaderMetadata,
    /// The positions of rows that are deleted, in order.
    deleted: Vec<u64>,
    /// The columns of its table that are properties.
    properties: Arc<[Field]>,
}

impl LakeFile {
    /// Reads the footer of a file of rows of `kind`.
    pub fn open(path: PathBuf, kind: Kind) -> Result<Self> {
        Self::open_own(&path, kind)?.ok_or_else(|| foreign(&path))
    }

    /// Reads the footer of a part, whose rows are of `kind`.
    pub fn of_part(lake: &Lake, part: &LakePart, kind: Kind) -> Result<Self> {
        let path = lake.dir.hidden(&part.part);
        if lake.columns.is_none() {
            return Self::open(path, kind);
        }
        let columns = lake.table.iter().flat_map(TableColumns::all);
        Ok(Self::of_table(RowsFile::Disk(path), kind)?.with_properties(columns.map(|column| column.field()).collect()))
    }

    /// Reads the footer like [`LakeFile::open`]; `None` if the rows are not of evt, so that none has a key of a lake.
    pub fn open_own(path: &Path, kind: Kind) -> Result<Option<Self>> {
        let file = RowsFile::Disk(path.to_owned());
        let Some((found, builder)) = kind_in(path, file.open()?)? else { return Ok(None) };
        check_kind(path, found, kind)?;
        let footer = ArrowReaderMetadata::try_new(builder.metadata().clone(), ArrowReaderOptions::new());
        let footer = footer.map_err(parquet_failed(path))?;
        Ok(Some(Self { file, kind, footer, deleted: vec![], properties: Arc::default() }))
    }

    /// Reads the footer of a file of a table, whoever wrote it. Its columns have the names of those of the kind.
    ///
    /// Errors: exit status 65 if one without NULL is missing, 74 if the file cannot be read.
    pub fn of_table(file: RowsFile, kind: Kind) -> Result<Self> {
        let path = file.path();
        let builder = reading_of(path, file.open()?)?;
        let schema = kind.schema();
        let missing = schema
            .fields()
            .iter()
            .find(|field| !field.is_nullable() && builder.schema().column_with_name(field.name()).is_none());
        if let Some(field) = missing {
            return Err(Error::corrupt(format!("{}: expected a column '{}'", path.display(), field.name())));
        }
        let footer = ArrowReaderMetadata::try_new(builder.metadata().clone(), ArrowReaderOptions::new());
        let footer = footer.map_err(parquet_failed(path))?;
        Ok(Self { file, kind, footer, deleted: vec![], properties: Arc::default() })
    }

    /// Leaves out the rows at these positions, which are in order.
    pub fn without(self, deleted: Vec<u64>) -> Self {
        Self { deleted, ..self }
    }

    /// Reads these columns as properties.
    pub fn with_properties(self, properties: Arc<[Field]>) -> Self {
        Self { properties, ..self }
    }

    /// Reads some columns of the row groups that may have rows in a span, as in [`ReadRequest`].
    pub fn batches(&self, columns: Option<u32>, span: Span) -> Result<Batches> {
        self.read(groups_in(self.footer(), self.kind, span), columns)
    }

    /// Returns its footer.
    pub fn footer(&self) -> &ParquetMetaData {
        self.footer.metadata()
    }

    /// Reads all of its rows.
    pub fn rows(&self) -> Result<Batches> {
        self.read(None, None)
    }

    /// Reads some columns of some row groups; the other columns are blank.
    pub fn columns<'a>(&self, names: impl Iterator<Item = &'a str>, groups: Vec<usize>) -> Result<Batches> {
        let columns = bits_of(self.kind, names)?;
        self.read(Some(groups), Some(columns))
    }

    /// Reads some columns of some row groups; all without a list.
    fn read(&self, groups: Option<Vec<usize>>, columns: Option<u32>) -> Result<Batches> {
        let own = marked(self.footer.schema(), &self.properties);
        let mask = columns.map(|columns| mask(self.kind, columns, &own, self.footer.parquet_schema()));
        let bytes = self.file.open()?.with_plan(self.footer(), groups.as_deref(), mask.as_ref());
        let faults = bytes.faults();
        let builder = Reading::new_with_metadata(bytes, self.footer.clone());
        let (mut builder, left) = limited(builder, groups.as_deref());
        if !self.deleted.is_empty() {
            builder = builder.with_row_selection(self.kept(groups.as_deref()));
        }
        let (path, kind, properties) = (self.file.path(), self.kind, self.properties.clone());
        rows_of(FileToRead { path, kind, builder, left, faults, properties }, mask)
    }

    /// Selects the rows of some row groups that are not deleted.
    fn kept(&self, groups: Option<&[usize]>) -> RowSelection {
        let (mut ranges, mut start, mut read) = (vec![], 0, 0);
        for (at, group) in self.footer().row_groups().iter().enumerate() {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            if groups.is_none_or(|groups| groups.contains(&at)) {
                let mut from = 0;
                let first = self.deleted.partition_point(|position| *position < start as u64);
                let deleted = self.deleted[first..].iter().map_while(|position| {
                    usize::try_from(*position).ok().map(|position| position - start).filter(|place| *place < rows)
                });
                for place in deleted {
                    ranges.push(read + from..read + place);
                    from = place + 1;
                }
                ranges.push(read + from..read + rows);
                read += rows;
            }
            start += rows;
        }
        RowSelection::from_consecutive_ranges(ranges.into_iter(), read)
    }
}

/// Returns the row groups that may have rows in a span, as far as the statistics of their times say; `None`: all.
fn groups_in(footer: &ParquetMetaData, kind: Kind, span: Span) -> Option<Vec<usize>> {
    if span == Span::default() {
        return None;
    }
    let schema = footer.file_metadata().schema_descr();
    let leaf = schema.columns().iter().position(|leaf| leaf.path().string() == kind.time_column())?;
    // Another program may have other units.
    let Some(LogicalType::Timestamp { unit: TimeUnit::MICROS, .. }) = schema.column(leaf).logical_type_ref() else {
        return None;
    };
    let may_be_in = |group: &RowGroupMetaData| {
        let Some(Statistics::Int64(times)) = group.column(leaf).statistics() else { return true };
        let ends = times.min_opt().zip(times.max_opt());
        ends.is_none_or(|(first, last)| span.overlaps(Span { since: Some(*first), until: last.checked_add(1) }))
    };
    let groups = footer.row_groups().iter().enumerate().filter(|(_, group)| may_be_in(group));
    Some(groups.map(|(at, _)| at).collect())
}

/// Limits a reader to some row groups; returns the number of their rows, too.
fn limited(builder: Reading, groups: Option<&[usize]>) -> (Reading, u64) {
    let footer = builder.metadata().clone();
    let is_read = |at: &usize| groups.is_none_or(|groups| groups.contains(at));
    let rows = footer.row_groups().iter().enumerate().filter(|(at, _)| is_read(at)).map(|(_, group)| group.num_rows());
    let rows = u64::try_from(rows.sum::<i64>()).unwrap_or(0);
    (if let Some(groups) = groups { builder.with_row_groups(groups.to_vec()) } else { builder }, rows)
}

/// Returns columns of a kind as bits, as in [`ReadRequest`].
pub fn bits_of<'a>(kind: Kind, names: impl Iterator<Item = &'a str>) -> Result<u32> {
    let schema = kind.schema();
    let mut columns = 0;
    for name in names {
        columns |= u32::try_from(schema.index_of(name)?).map_or(0, |index| 1 << index);
    }
    Ok(columns)
}

/// Returns the columns of a file that are read for columns of a kind.
fn mask(kind: Kind, columns: u32, file: &Schema, leaves: &SchemaDescriptor) -> ProjectionMask {
    let schema = kind.schema();
    let read = schema.fields().iter().enumerate().filter(|(index, field)| {
        let is_read =
            u32::try_from(*index).is_ok_and(|index| columns.checked_shr(index).is_some_and(|bits| bits & 1 == 1));
        is_read || field.name() == kind.time_column()
    });
    let mut names: Vec<&str> = read.map(|(_, field)| field.name().as_str()).collect();
    if names.contains(&COLUMNS[column::PROPERTIES]) {
        names.extend(file.fields().iter().filter(|field| is_property(field)).map(|field| field.name().as_str()));
    }
    ProjectionMask::columns(leaves, names)
}

/// Reads a part of a file.
pub fn whole_rows(path: &Path, kind: Kind, builder: Reading, request: ReadRequest) -> Result<Batches> {
    let ReadRequest { span, columns, .. } = request;
    let groups = groups_in(builder.metadata(), kind, span);
    let (builder, left) = limited(builder, groups.as_deref());
    let mask = columns.map(|columns| mask(kind, columns, builder.schema(), builder.parquet_schema()));
    let (faults, properties) = (RowsFaults::default(), Arc::default());
    rows_of(FileToRead { path, kind, builder, left, faults, properties }, mask)
}

/// A file that is opened.
struct FileToRead<'a> {
    path: &'a Path,
    kind: Kind,
    builder: Reading,
    /// The number of rows that are read.
    left: u64,
    faults: RowsFaults,
    /// The columns that are properties, besides those that say so.
    properties: Arc<[Field]>,
}

fn rows_of(file: FileToRead<'_>, mask: Option<ProjectionMask>) -> Result<Batches> {
    let FileToRead { path, kind, builder, left, faults, properties } = file;
    let is_projected = mask.is_some();
    let builder = builder.with_batch_size(BATCH).with_projection(mask.unwrap_or_else(ProjectionMask::all));
    let reader = builder.build().map_err(parquet_failed(path))?;
    Ok(Box::new(LakeRows {
        reader,
        kind,
        is_projected,
        path: path.to_owned(),
        faults,
        properties,
        left,
        is_over: false,
    }))
}

fn corrupt(path: &Path, error: ArrowError) -> Error {
    Error::corrupt(format!("parquet:{}", path.display())).because(error)
}

/// The rows of one file.
struct LakeRows {
    reader: ParquetRecordBatchReader,
    kind: Kind,
    /// Whether some columns are not read.
    is_projected: bool,
    path: PathBuf,
    faults: RowsFaults,
    properties: Arc<[Field]>,
    /// The rows that are not read yet.
    left: u64,
    /// Whether the rest of the file cannot be read.
    is_over: bool,
}

impl Iterator for LakeRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = if self.is_over { None } else { self.reader.next() }?;
        let aligned = |batch: RecordBatch| {
            let batch = RecordBatch::try_new(marked(batch.schema_ref(), &self.properties), batch.columns().to_vec())?;
            let whole = match properties::has_properties(batch.schema_ref()) {
                true => {
                    let own = properties::without_properties(&batch)?;
                    properties::merge(&own, &properties::only_properties(&batch)?)?
                }
                false => batch,
            };
            let whole = typed(self.kind, whole)?;
            if self.is_projected { filled(self.kind, &whole) } else { rows::align(self.kind, &whole) }
        };
        let batch = batch.map_err(|e| {
            self.is_over = true;
            if let Some(fault) = self.faults.take() {
                return fault;
            }
            // The files after it can be read.
            corrupt(&self.path, e).of_rows(UnreadableRows { count: self.left, ..UnreadableRows::default() })
        });
        self.left = self.left.saturating_sub(batch.as_ref().map_or(0, |batch| batch.num_rows() as u64));
        Some(batch.and_then(aligned))
    }
}

/// Marks the columns of a schema that are properties.
fn marked(schema: &SchemaRef, properties: &[Field]) -> SchemaRef {
    if properties.is_empty() {
        return schema.clone();
    }
    let property = |field: &FieldRef| {
        let is_same = |property: &&Field| {
            property.name() == field.name() && property.data_type() == field.data_type() && field.is_nullable()
        };
        properties.iter().find(is_same).map_or_else(|| field.clone(), |property| Arc::new(property.clone()))
    };
    let fields = schema.fields().iter().map(property).collect();
    Arc::new(Schema { fields, metadata: schema.metadata().clone() })
}

/// Returns a batch whose columns have the types of their kind, which another writer may have written as others.
fn typed(kind: Kind, batch: RecordBatch) -> Result<RecordBatch> {
    let schema = kind.schema();
    let wanted = |field: &FieldRef| Some(schema.column_with_name(field.name())?.1.data_type());
    let fields = batch.schema_ref().fields().clone();
    if fields.iter().all(|field| wanted(field).is_none_or(|wanted| wanted == field.data_type())) {
        return Ok(batch);
    }
    let columns = fields.iter().zip(batch.columns()).map(|(field, column)| match wanted(field) {
        Some(wanted) if wanted != field.data_type() => Ok((field.name(), cast(column, wanted)?)),
        _ => Ok((field.name(), column.clone())),
    });
    Ok(RecordBatch::try_from_iter(columns.collect::<Result<Vec<_>>>()?)?)
}

/// Returns the columns of a kind; those that `batch` does not have are blank.
fn filled(kind: Kind, batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = kind.schema();
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => Ok(column.clone()),
        None => blank(field, batch.num_rows()),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?)?)
}
