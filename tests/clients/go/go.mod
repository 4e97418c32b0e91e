module clients

go 1.22

require github.com/resonatehq/resonate-sdk-go v0.0.0-20260617195620-152de9b5bc17
