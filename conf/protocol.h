/* SPDX-License-Identifier: MIT */
/*
 * What initctl and PID 1 say to each other, over the SOCK_SEQPACKET socket CONTROL_SOCKET. Each
 * packet is one record (conf/record.h) of at most CONTROL_PACKET_MAX bytes.
 *
 * The client sends one request: kind "request", the verb as its id, and the fields below. PID 1
 * answers with any number of records and ends with exactly one of kind "result". A client that goes
 * away changes nothing of what it asked for.
 *
 *   verb                                    fields
 *   status                                  unit=NAME (optional)
 *   start stop restart reload               unit=NAME
 *   plan upgrade                            path=/new (a directory, block device or file, or a
 *                                           device as TAG=VALUE, CONTROL_IMAGE_TAGS)
 *                                           seen=DEVICE INODE (of the path for a client whose mount
 *                                           namespace is another)
 *                                           mount_options=OPTS read_only=yes (how to mount it)
 *                                           verity_hash=PATH root_hash=HEX-OR-PATH
 *                                           root_hash_signature=PATH (dm-verity)
 *   upgrade                                 the same, and force=yes dry_run=yes (is plan)
 *                                           commit=(auto hand; else AutoCommit=)
 *                                           commit_within=SPAN (by hand, and back past it)
 *   rollback commit release holders reexec version blame
 *   log                                     unit=NAME; "init" is PID 1 itself. Answered by the
 *                                           path: the client reads the file
 *   poweroff reboot halt kexec
 *   single                                  answered when it has begun
 *   schedule                                kind=(poweroff reboot halt kexec) and either in_usec=
 *                                           (0: at once) or at_usec= (since 1970); wall=no (nobody
 *                                           is told) message= by= (what they are told)
 *                                           only_warn=yes (nothing else is done)
 *   cancel                                  wall= message= by=: there will be no shutdown
 *   configure                               init.conf is read again
 *
 *   answer kind  id         fields
 *   system       version    generation= state=(booting running upgrading uncommitted stopping)
 *                           image= (of /etc/os-release, PRETTY_NAME) up_usec= rss_bytes= kernel=
 *                           init_pid= crashes= (of PID 1, since the boot)
 *                           last_crash= ("SIGSEGV at molt+0x1234")
 *   attached     GENERATION committed=yes (a rollback undoes what was) left_usec= (until it is let
 *                           go, or not committed, gone back to; none: no such time): the one that
 *                           a rollback goes to. Of status and holders
 *   boot         ""         kernel_usec= (from the kernel's first moment to PID 1's, on a machine)
 *                           initramfs_usec= (the part of it that an initramfs of molt took)
 *                           firmware_usec= (before the kernel: from ACPI's FPDT, where there is
 *                           one) stages_usec= (until the services were asked for; none: that is
 *                           not yet) total_usec= (until the last of them was up or failed)
 *                           waiting= (how many are neither yet). Of blame, as the next two
 *   stage        NAME       what= begin_usec= (since PID 1 began) usec= (none: it is at it)
 *                           failed=yes: of the boot
 *   start        NAME       of a service that was asked for in the boot: begin_usec= (its turn
 *                           came; none: not yet) usec= (to being up; none: it is not)
 *                           waited_usec= (for what it comes after, before) failed=yes
 *   scheduled    KIND       left_usec= at_usec= message= by=: a shutdown to come. Of status
 *   unit         NAME       description= state= (see service.h) type= policy= main_pid=
 *                           state_usec= (for how long in that state) restarts= status= (of STATUS=)
 *                           errno= bus_error= exit_status= (where it says ERRNO=, BUSERROR=,
 *                           EXIT_STATUS=)
 *                           result= (why it stopped) source= log= memory_bytes= tasks=
 *                           exe_generation= (of the main process's exe, where it is known)
 *                           listen= (repeated)
 *   plan         PATH       generation= from= to= (PRETTY_NAME of each)
 *                           image=(directory mount device file) fstype= mode=(ro rw) verity=yes
 *                           device= (that a device or file is mounted from)
 *   mount        PATH       action=(move leave; make: its mount point, and move) fstype=
 *                           to= (where the new image's symbolic links lead, if there are any)
 *   namespace    PID        another mount namespace, by a process in it: comm=; nobody is in it:
 *                           fd= (of that process, which keeps it) or, with PID 0, path= (a bind
 *                           mount of it) action=(swap leave cannot) why= (it cannot)
 *   carry        PATH       action=(copy bind stays same missing): see Carry= in init.conf(5)
 *   service      NAME       policy= action= (what the upgrade does to it) asked=yes
 *                           (it has a say): a plan line
 *   hook         PATH       phase=(pre-upgrade post-pivot commit) and, once it has run, usec=
 *                           failed=yes text= (why, or its last line)
 *   holder       PID        comm= unit= uid= generation= what=(root cwd dirfd file exe map socket
 *                (0: not    watch ring mntns mount) fd= mode=(r w rw) tid= (where it is another
 * than PID) in sight)  path= deleted=yes more= (as many alike are not listed) part= (what=mount: of
 * the image, which is mounted at path) action=(migrate replace stays blocks) why= (it cannot be
 * migrated, or not now) advice= (what the person can do) skew         NAME       from= to= (build
 * ids of that library in both images, "" where there is none) same=yes blocker      "" text= (what
 * forbids the upgrade; --force says yes to it) warning      ""         text= phase        NAME
 * usec= (how long) blackout=yes (part of it): one as each phase ends progress     ""         text=
 * (a line for a person) blackout     ""         usec= (from freeze to thaw) processes= (looked at)
 * migrated= left= tries= (so far: each froze everything) log          NAME       path= result CODE
 * text= (why; the last line of an upgrade: "committed", "not committed yet: ...", "already there:
 * WHY", "rolled back: WHY", "refused: WHY")
 *
 * Unknown kinds and fields are skipped by both sides.
 */
#ifndef MOLT_CONF_PROTOCOL_H
#define MOLT_CONF_PROTOCOL_H

#define CONTROL_SOCKET "/run/molt/control"
#define CONTROL_PACKET_MAX 65536

/* By which a block device may be named instead of by its path, as in fstab(5). */
#define CONTROL_IMAGE_TAGS "UUID", "LABEL", "PARTUUID", "PARTLABEL"

/* The ids of a result record, and initctl's exit codes for them. */
#define RESULT_OK "ok" /* 0 */
#define RESULT_FAILED "failed" /* 1: it was tried and did not work */
#define RESULT_USAGE "usage" /* 2: the request makes no sense */
#define RESULT_REFUSED "refused" /* 3: an upgrade that changed nothing */
#define RESULT_ROLLED_BACK "rolled-back" /* 4: an upgrade that was undone */
#define RESULT_BUSY \
	"busy" /* 5: another upgrade, or a shutdown, is under way; or too many clients */
#define RESULT_DENIED "denied" /* 6: only root may */
#define RESULT_NOT_FOUND "not-found" /* 7: no such service */

/* The last line of an init that was asked with --check-state and could take over; with exit code 0.
 * Any other program that happens to end well has not said so. */
#define STATE_CHECK_PASSED "molt: this init can take over"

enum control_exit {
	CONTROL_EXIT_OK = 0,
	CONTROL_EXIT_FAILED = 1,
	CONTROL_EXIT_USAGE = 2,
	CONTROL_EXIT_REFUSED = 3,
	CONTROL_EXIT_ROLLED_BACK = 4,
	CONTROL_EXIT_BUSY = 5,
	CONTROL_EXIT_DENIED = 6,
	CONTROL_EXIT_NOT_FOUND = 7,
	CONTROL_EXIT_UNREACHABLE = 8, /* no PID 1 of ours answers */
	CONTROL_EXIT_INACTIVE = 9, /* status NAME: it is not running */
};

#endif
