import FrameCoding
import Imaging
import Testing

@Suite struct NPYTests {
    /// Header text and data of a file, after checking what NumPy's format 1.0 asks for.
    static func parse(_ file: [UInt8]) throws -> (header: String, data: ArraySlice<UInt8>) {
        #expect(Array(file[..<8]) == [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0])
        let length = Int(file[8]) | Int(file[9]) << 8
        #expect((10 + length) % 64 == 0)
        #expect(file[9 + length] == 10)
        return (String(decoding: file[10..<(10 + length)], as: UTF8.self), file[(10 + length)...])
    }

    @Test func valuesAreFloatsInRowsAndColumns() throws {
        let (header, data) = try Self.parse(Raster(size: PixelSize(3, 2), pixels: .values([0, 1, -2, 1024.5, 4, 5])).encodedAsNPY())
        #expect(header.hasPrefix("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"))
        #expect(data.count == 24)
        #expect(Array(data[data.startIndex + 12..<data.startIndex + 16]) == [0x00, 0x10, 0x80, 0x44])
    }

    @Test func picturesAreBytes() throws {
        let grey = try Self.parse(Pictures.grey(5, 7).encodedAsNPY())
        #expect(grey.header.contains("'|u1'") && grey.header.contains("(7, 5)"))
        #expect(Array(grey.data) == Pictures.bytes(Pictures.grey(5, 7)))
        let color = try Self.parse(Pictures.rgb(5, 7).encodedAsNPY())
        #expect(color.header.contains("(7, 5, 3)") && color.data.count == 105)
    }
}
