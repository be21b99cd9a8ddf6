import CDICOM

/// Asks the system to begin writing to the disk what a file has in memory: a hint that waits for nothing, so that many files are
/// written together and waiting for each of them is short. Swift's Glibc does not show the call.
public func beginWriting(descriptor: Int32, offset: Int, length: Int) {
    cdicom_begin_writing(descriptor, UInt64(max(0, offset)), UInt64(max(0, length)))
}
