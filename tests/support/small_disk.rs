//! A file system of its own, which a test may fill or have read only.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::skip::skip;

/// In memory, and unmounted when it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of that size at a folder, which is made; none, where that is not allowed here.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        let is_mounted = command.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            skip("a file system of its own needs root");
        }
        is_mounted.then(|| Self(at.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a name takes no room");
        while ballast.write_all(&[7; 4096]).is_ok() {}
    }

    /// Gives it back.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it is there");
    }

    /// Has nothing written any more, or again.
    pub fn set_read_only(&self, is_read_only: bool) {
        let option = if is_read_only { "remount,ro" } else { "remount,rw" };
        let status = Command::new("mount").args(["-o", option]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "{option} {}", self.0.display());
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: what is killed may still have a file open
        Command::new("umount").arg("-l").arg(&self.0).status().map(|_| ()).unwrap_or_default();
    }
}
