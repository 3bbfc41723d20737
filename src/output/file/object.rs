//! An object of a bucket as an output: a temporary file, which becomes the object at the proven end.

use super::behind::WriteBehind;
use super::pack::Packer;
use super::replace::{Ended, Overwrite};
use evt_core::error::{Error, Result};
use evt_core::frame::EndReason;
use evt_run::bucket::new_object::NewObject;
use evt_run::run::Run;
use evt_run::storage::disk::{Disk, failed};
use evt_store::Notice;
use std::path::Path;
use tempfile::NamedTempFile;

/// What becomes an object.
pub struct ObjectPart {
    object: Box<NewObject>,
    overwrite: Overwrite,
    /// In `TMPDIR`; removed with this value.
    file: NamedTempFile,
    /// Writes the file.
    pub writer: Box<WriteBehind>,
}

impl ObjectPart {
    /// Creates the temporary file. Errors: exit status 74.
    pub fn create(object: NewObject, overwrite: Overwrite, disk: &Disk, run: &Run) -> Result<Self> {
        let file = NamedTempFile::new().map_err(|error| Error::io("a temporary file (TMPDIR)", &error))?;
        let path = file.path().to_owned();
        let handle = file.as_file().try_clone().map_err(failed(&path))?;
        let packer = Packer::of(Path::new(&object.key)).map_err(failed(&path))?;
        let writer = Box::new(WriteBehind::new(disk.file(handle), path, packer, &run.pool));
        Ok(Self { object: Box::new(object), overwrite, file, writer })
    }

    /// Returns the name of the object.
    pub fn name(&self) -> String {
        self.object.to_string()
    }

    /// Makes the file the object; one that exists stays.
    pub fn put(self) -> Result<()> {
        let Self { object, file, writer, .. } = self;
        writer.finish()?;
        object.write(file.path(), false).map(drop)
    }

    /// Makes the file the object. An existing one is not replaced if the source was stopped.
    pub fn finish(self, how: EndReason) -> Result<Ended> {
        let Self { object, overwrite, file, writer } = self;
        writer.finish()?;
        let exists = object.exists()?;
        if how == EndReason::Stopped && exists {
            let text = format!("{object}: stopped before the end of the input: not replaced");
            return Ok(Ended { remark: Some("not replaced".to_owned()), notice: Some(Notice { text, fails: true }) });
        }
        if !object.write(file.path(), overwrite.is_on())? {
            return Err(already_exists(&object, overwrite));
        }
        Ok(Ended { remark: Some(if exists { "replaced" } else { "new" }.to_owned()), notice: None })
    }
}

/// Checks that an object may be written. Errors: exit status 2 if there is one that must not be replaced.
pub fn check(object: &NewObject, overwrite: Overwrite) -> Result<()> {
    match !overwrite.is_on() && object.exists()? {
        true => Err(already_exists(object, overwrite)),
        false => Ok(()),
    }
}

fn already_exists(object: &NewObject, overwrite: Overwrite) -> Error {
    let advice = match overwrite {
        Overwrite::Unsupported => "use another one",
        _ => "--overwrite replaces it",
    };
    Error::usage(format!("{object}: the object exists; {advice}"))
}
