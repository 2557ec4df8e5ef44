//! Makes names of files durable.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes it last that a file was made or removed.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    if cfg!(unix) {
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    } else {
        Ok(())
    }
}
