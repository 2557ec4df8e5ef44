//! Where a process that has a replica open listens: `van.redb.sock` beside `van.redb`.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The place of a socket.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// The folder it is in, where the path leads through it.
    _folder: Option<File>,
}

impl Place {
    /// The place beside a replica's file, which is there. The system takes only short paths of sockets;
    /// a longer one is named by way of its open folder.
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

    /// Listens there. Whoever has the file open owns the socket: one that is left over from a process
    /// that was killed is replaced.
    pub(super) fn listen(self) -> io::Result<(UnixListener, Bound)> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&self.path)?,
            // Somebody's file.
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

/// A socket of this process.
#[derive(Debug)]
pub(super) struct Bound {
    place: Place,
    inode: u64,
}

impl Drop for Bound {
    /// Takes the socket away, if it is not another one by now: a file that was moved while it was open
    /// leaves its place to another.
    fn drop(&mut self) {
        let path = self.place.path();
        if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == self.inode) {
            // The next process replaces what is left.
            let _ = fs::remove_file(path);
        }
    }
}

/// Bytes of a path that every system takes for a socket; most take a few more.
const PATH_BYTES_MAX: usize = 100;
