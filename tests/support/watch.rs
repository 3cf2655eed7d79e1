//! Who writes in a folder, files that are gone again included: inotify keeps what happens, in order, until it is
//! asked. A write through a mapping shows as the file's opening and closing only.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// A folder that is watched. What happens deeper than in it shows as the making of a folder in it.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Watches from now on.
    pub(crate) fn new(folder: &Path) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("Linux");
        inotify::add_watch(&events, folder, WRITES).expect("the folder is there");
        Self(events)
    }

    /// What has happened since it was asked last: `CREATE name`, and so on.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "too many writes");
                    let name = event.file_name().map_or("", |name| name.to_str().unwrap_or("?"));
                    let kinds = event.events().iter_names().map(|(kind, _)| kind);
                    all.push(format!("{} {name}", kinds.collect::<Vec<_>>().join("+")));
                }
                Err(Errno::WOULDBLOCK) => return all,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}

/// Where a process may write on what may be a disk: its mounts that are neither read-only nor in memory, and
/// folders for temporary files, which are in memory on some machines only.
pub(crate) fn writable_places(pid: &str) -> Vec<String> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs");
    let (mut seen, mut writable) = (Vec::new(), Vec::new());
    // the last of a place lies over the others
    for line in mounts.lines().rev() {
        let (mount, system) = line.split_once(" - ").expect("proc(5)");
        let mut mount = mount.split(' ').skip(4);
        let (place, options) = (mount.next().expect("proc(5)"), mount.next().expect("proc(5)"));
        let kind = system.split(' ').next().expect("proc(5)");
        let may_be_disk =
            !NO_DISKS.contains(&kind) || TEMPORARY.iter().any(|it| place.starts_with(it));
        let is_writable = options.split(',').any(|option| option == "rw");
        if may_be_disk && is_writable && !seen.contains(&place) {
            writable.push(place.to_owned());
        }
        seen.push(place);
    }
    writable
}

/// Whatever changes a file, or is done to one that was opened to be written.
const WRITES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];
/// What is kept in memory, or is the kernel's own.
const NO_DISKS: &[&str] = &[
    "tmpfs",
    "ramfs",
    "devtmpfs",
    "devpts",
    "proc",
    "sysfs",
    "mqueue",
    "cgroup",
    "cgroup2",
    "hugetlbfs",
];
