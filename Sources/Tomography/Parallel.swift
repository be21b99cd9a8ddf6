import Dispatch

/// Runs `body` for 0 ..< count on all cores and returns when all are done. Blocks the calling thread: call it from a thread of
/// your own, not from Swift's cooperative pool.
func parallelFor(_ count: Int, _ body: @Sendable (Int) -> Void) {
    if count == 1 { return body(0) }
    DispatchQueue.concurrentPerform(iterations: count, execute: body)
}

/// Lets workers write to disjoint parts of one array.
struct Shared<T>: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<T>
    init(_ pointer: UnsafeMutablePointer<T>) { self.pointer = pointer }
}
struct SharedConst<T>: @unchecked Sendable {
    let pointer: UnsafePointer<T>
    init(_ pointer: UnsafePointer<T>) { self.pointer = pointer }
}
