import CZlib
import FrameCoding
import Imaging
import Testing

@Suite struct Values16Tests {
    static func plane(_ width: Int, _ height: Int, _ value: (Int) -> Float) -> Raster {
        Raster(size: PixelSize(width, height), pixels: .values((0..<(width * height)).map(value)))
    }

    @Test func storedValuesComeBackExactly() throws {
        var random = Pictures.Noise(state: 5)
        for (slope, intercept, low, span) in [(1.0, 0.0, -1024, 4096), (1.0, -1024.0, -1024, 65_535), (0.5, 10.0, 0, 300)] {
            let values = Self.plane(61, 40) { _ in
                Float(Double(low) + (Double(random.next() >> 40).truncatingRemainder(dividingBy: Double(span) / slope)).rounded(.down) * slope + intercept)
            }
            #expect(try Values16.decode(Values16.encode(values, slope: slope, intercept: intercept)) == values)
        }
    }

    @Test func theWholeRangeOfSixteenBitsFits() throws {
        let raster = Self.plane(256, 257) { Float(min($0, 65_535)) - 32_768 }
        #expect(try Values16.decode(Values16.encode(raster, slope: 1, intercept: 0)) == raster)
        #expect(throws: CodingError.self) { try Values16.encode(Self.plane(2, 1) { Float($0) * 65_536 }, slope: 1, intercept: 0) }
    }

    @Test func interpolatedValuesAreRoundedToTheVolumesSteps() throws {
        let decoded = try Values16.decode(Values16.encode(Self.plane(3, 1) { [0.2, 10.6, -3.4][$0] }, slope: 1, intercept: 0))
        #expect(decoded == Self.plane(3, 1) { [0, 11, -3][$0] })
    }

    /// Worked by hand from the protocol's text, so that encoder and decoder cannot be wrong together.
    @Test func theBytesAreThoseOfTheProtocol() throws {
        // stored 10 12 / 9 300 → less the minimum 9: 1 3 / 0 291
        // predictors 0, median(1, 0, 0)=1 / median(0, 1, 0)=1, median(0, 3, 1): c=1 lies between → 0+3−1=2
        // residuals 1, 2, −1, 289 → zigzag 2, 4, 1, 578 = 0x242
        let bytes = try Values16.encode(Self.plane(2, 2) { [10, 12, 9, 300][$0] * 2 + 5 }, slope: 2, intercept: 5)
        #expect(Array(bytes[..<16]) == [9, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0xa0, 0x40, 2, 0, 2, 0])
        var planes = [UInt8](repeating: 0xee, count: 9), input = Array(bytes[16...]), stream = z_stream()
        #expect(inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK)
        defer { inflateEnd(&stream) }
        let status = input.withUnsafeMutableBufferPointer { source in
            planes.withUnsafeMutableBufferPointer { target in
                stream.next_in = source.baseAddress; stream.avail_in = UInt32(source.count)
                stream.next_out = target.baseAddress; stream.avail_out = UInt32(target.count)
                return inflate(&stream, Z_FINISH)
            }
        }
        #expect(status == Z_STREAM_END)
        #expect(planes == [0, 0, 0, 2, 2, 4, 1, 0x42, 0xee])
    }

    @Test func whatCannotBeSentIsATypedError() {
        #expect(throws: CodingError.self) { try Values16.encode(Pictures.grey(4, 4), slope: 1, intercept: 0) }
        #expect(throws: CodingError.self) { try Values16.encode(Self.plane(2, 1) { _ in .nan }, slope: 1, intercept: 0) }
        #expect(throws: CodingError.self) { try Values16.encode(Self.plane(2, 1) { _ in .infinity }, slope: 1, intercept: 0) }
        #expect(throws: CodingError.self) { try Values16.encode(Self.plane(2, 1) { _ in 1 }, slope: 0, intercept: 0) }
        #expect(throws: CodingError.self) { try Values16.decode([1, 2, 3]) }
        #expect(throws: CodingError.self) { try Values16.decode([UInt8](repeating: 0xff, count: 40)) }
    }
}
