import Glibc

/// A thread for something that blocks.
package final class Detached: Sendable {
    private let body: @Sendable () -> Void
    package init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    package func start() {
        var thread = pthread_t()
        let error = pthread_create(&thread, nil, { raw in
            Unmanaged<Detached>.fromOpaque(raw!).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(self).toOpaque())
        if error == 0 { pthread_detach(thread) } else { Unmanaged.passUnretained(self).release() }
    }
}
