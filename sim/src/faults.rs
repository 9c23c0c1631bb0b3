//! The kinds of what goes wrong. [`crate::chaos`] chooses among them, [`crate::inject`] makes them happen.

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $kind,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Fault] = &[$(Fault::$kind,)*];

            /// Its name on the command line and in counters.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Fault::$kind => $name,)* }
            }
        }
    };
}

faults! {
    /// A process is killed at an await.
    Kill = "kill",
    /// A process is killed, or its machine loses power, at a named point of the code.
    Point = "point",
    /// A machine loses power: unsynced data is gone or torn.
    Power = "power",
    /// All machines lose power at once.
    PowerAll = "power-all",
    /// A process is stopped as by SIGTERM, and started again.
    Restart = "restart",
    /// A process is stopped as by SIGSTOP, for up to minutes, and goes on.
    Pause = "pause",
    /// One machine and the others do not hear each other.
    Isolate = "isolate",
    /// Two machines do not hear each other.
    Partition = "partition",
    /// One machine does not hear another, which hears it.
    OneWay = "one-way",
    /// A link that is cut and whole in turns.
    Flap = "flap",
    /// Links are slow.
    Latency = "latency",
    /// Links carry little at a time.
    Narrow = "narrow",
    /// Datagrams are lost, doubled and overtake each other.
    Datagrams = "datagrams",
    /// A connection breaks.
    Reset = "reset",
    /// Syncs take long.
    SlowSync = "slow-sync",
    /// A disk does not answer, from less than a lease to seconds: a sync that stalls.
    Stall = "stall",
    /// A disk is full, log and stores.
    Full = "full",
    /// There is no room for the log.
    FullLog = "full-log",
    /// There is no room for the stores.
    FullStores = "full-stores",
    /// A sync of the log fails; the machine is restarted later.
    SyncError = "sync-error",
    /// Reads fail with EIO, all or some; the machine is restarted later.
    ReadError = "read-error",
    /// Writes fail with EIO, all or some; the machine is restarted later.
    WriteError = "write-error",
    /// Bits turn over where something is stored; an operator replaces the machine.
    Rot = "rot",
    /// A sector is written where another belongs; an operator replaces the machine.
    Misdirect = "misdirect",
    /// A machine comes back with what its disk was some time ago.
    OldImage = "old-image",
    /// A wall clock jumps.
    ClockStep = "clock-step",
    /// A wall clock drifts.
    ClockDrift = "clock-drift",
    /// A machine comes back with an empty disk.
    Wipe = "wipe",
    /// A node of another cluster, one under a name that is taken, or one at an address that another has left.
    Stranger = "stranger",
    /// Many more writers and readers than the cluster can serve.
    Overload = "overload",
    /// An operator offers another configuration, or a broken one.
    Configure = "configure",
}

impl Fault {
    /// Whether it leaves a machine with a disk that cannot be relied on. Then nothing else may go wrong until there
    /// are three copies again: more than one lost disk is more than is promised.
    #[must_use]
    pub fn costs_a_disk(self) -> bool {
        matches!(self, Fault::Rot | Fault::Misdirect | Fault::OldImage | Fault::Wipe)
    }

    /// Whether it begins only in a world that is whole and undisturbed: what a disk forgets without being able to know
    /// it must be on both others, and a name may be taken over from a machine that is silent.
    #[must_use]
    pub fn needs_calm(self) -> bool {
        matches!(self, Fault::Rot | Fault::Misdirect | Fault::OldImage | Fault::Stranger)
    }
}
