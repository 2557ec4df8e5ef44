//! The place of the socket at which a process that has a replica open listens: `van.redb.sock` beside
//! `van.redb`.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The path of a socket.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// The folder that the socket is in, if the path leads through this open file.
    _folder: Option<File>,
}

impl Place {
    /// The place beside a replica's file, which has to exist. The system takes only short paths of
    /// sockets, so a socket with a longer path is named by way of its open folder.
    pub(super) fn beside(file: &Path) -> io::Result<Self> {
        let file = file.canonicalize()?;
        let folder = file.parent().ok_or(ErrorKind::NotFound)?;
        let mut name = file.file_name().ok_or(ErrorKind::NotFound)?.to_owned();
        name.push(".sock");
        let path = folder.join(&name);
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self { path, _folder: None });
        }
        let open = File::open(folder)?;
        let through = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string());
        let path = through.join(&name);
        if path.as_os_str().len() > PATH_BYTES_MAX || !through.exists() {
            let long = "the path of the file is too long for a socket beside it";
            return Err(io::Error::new(ErrorKind::InvalidFilename, long));
        }
        Ok(Self { path, _folder: Some(open) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Listens at this place. The socket belongs to the process that has the replica's file open, so
    /// a socket that a killed process left behind is replaced.
    pub(super) fn listen(self) -> io::Result<(UnixListener, Bound)> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&self.path)?,
            // This is an ordinary file that somebody has made, and it stays.
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&self.path)?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let inode = fs::symlink_metadata(&self.path)?.ino();
        Ok((listener, Bound { place: self, inode }))
    }
}

/// A socket at which this process listens.
#[derive(Debug)]
pub(super) struct Bound {
    place: Place,
    inode: u64,
}

impl Drop for Bound {
    /// Removes the socket, unless the path leads to another one by now: when a replica's file is
    /// moved while it is open, another replica may take its place and listen there.
    fn drop(&mut self) {
        let path = self.place.path();
        if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == self.inode) {
            // The next process replaces a socket that is left behind.
            let _ = fs::remove_file(path);
        }
    }
}

/// Bytes of a path that every system accepts for a socket; most accept a few more.
const PATH_BYTES_MAX: usize = 100;
