@testable import Imaging
import Testing

@Suite struct LabelMapTests {
    /// Kernels read two labels at a time, the last one's neighbour too: without memory behind whole pages of labels a picture of the
    /// last voxel ended the process, now and then.
    @Test(arguments: [1, 2047, 2048, 4096, 65_536]) func thereIsMemoryBehindTheLastLabel(_ count: Int) throws {
        let map = try #require(LabelMap(zeros: count))
        map[count - 1] = 7
        #expect(map.readable.count >= 2 * count + VoxelBuffer.margin)
        #expect(map.readable.loadUnaligned(fromByteOffset: 2 * count - 2, as: UInt32.self) == 7)
        #expect(map.readable[(2 * count)...].allSatisfy { $0 == 0 })
    }
}
