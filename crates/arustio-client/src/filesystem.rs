//! The real file system. Cheap to clone; all clones are one client.

/// A client of an Arustio cluster; implements [`FileSystem`](crate::FileSystem).
#[derive(Debug, Clone)]
pub struct ArustioFileSystem {}
